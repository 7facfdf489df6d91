"""
A Parquet table in a stream
===========================

A table is read in batches of rows, fitted, and written scaled. Memory does not grow with the table,
and what is not a number passes through as it is.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import normcore as nc

folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
n = 200_000
table = pa.table(
    {
        "sensor": rng.choice(["a", "b", "c"], n),
        "pressure": (1e5 + rng.normal(0, 300, n)).astype(np.float32),
        "flow": rng.gamma(2, 3, n),
    }
)
pq.write_table(table, folder / "readings.parquet", row_group_size=10_000)

# %%
# Two passes: one learns, one writes. `progress=` tells how far it is.

rows = []


def follow(progress):
    """Note how far a pass is."""
    rows.append((progress.step, progress.rows))


scaler = nc.StandardScaler()
report = nc.fit_source(folder / "readings.parquet", scaler, batch_rows=10_000, progress=follow)
print("scaled:", report.columns, "as they are:", report.passed_through)
nc.transform_source(
    folder / "readings.parquet",
    folder / "scaled.parquet",
    scaler,
    batch_rows=10_000,
    progress=follow,
)

# %%
# The result has the same columns, types and row groups:

scaled = pq.read_table(folder / "scaled.parquet")
print(scaled.schema)

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
for ax, name in zip(axes, ("pressure", "flow"), strict=False):
    ax.hist(scaled[name].to_numpy(), bins=60)
    ax.set(title=f"{name}, scaled", yticks=[])
for step, width in (("fit", 5), ("transform", 1.5)):  # they are as far after each batch
    done = [count for each, count in rows if each == step]
    axes[2].step(range(len(done)), done, label=step, where="post", lw=width)
axes[2].set(title="rows done", xlabel="report of progress")
axes[2].legend()
plt.show()
