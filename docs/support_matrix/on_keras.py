"""normcore.keras on each backend of Keras, in a process of its own."""

import json
import os
import subprocess
import sys

__all__ = ["KERAS_COLUMNS", "on_backends"]

BACKENDS = ("torch", "jax", "numpy")
POLICIES = ("float64", "float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
KERAS_COLUMNS = (*POLICIES, "gradients", "compiled", "`vmap`", "`mask=`", "weights, files")
CODE = """
import json
from support_matrix.keras_on_backend import LAYERS, layer_row
print(json.dumps({name: layer_row(name, POLICIES) for name in LAYERS}))
"""


def on_backends() -> dict[str, list[str]]:
    """Return for each layer and backend the dtype of results under each policy, and what it does.

    A process has one backend.
    """
    rows: dict[str, list[str]] = {}
    for backend in BACKENDS:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "KERAS_BACKEND": backend,
        }
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CODE.replace("POLICIES", repr(POLICIES))],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"on Keras's backend {backend}: {done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        rows |= {f"{name}, {backend}": cells for name, cells in found.items()}
    return rows
