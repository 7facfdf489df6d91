"""Results keep their bits: a table of hashes that no change of structure may touch.

``result_hashes.json`` has a line for each computation of ``result_cases.py``: what it gives on the
CPU backend, the same in every build, and for the smaller arrays on the reference. An exception is
held by its name. Where results are meant to change, write the table anew with::

    python tests/helpers/result_hashes.py

which refuses where the builds differ; what changed is then seen by ``git diff``.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from normcore_cpu.backend import CpuBackend
from result_cases import Data, batch_norms, folding, layer_norms, scalers, statistics

import normcore as nc

TABLE = Path(__file__).with_name("result_hashes.json")
BUILDS = ("baseline", "avx2", "avx512")

#: The reference computes all that has at most this many elements.
SMALL = 3000
FLOATS = ("float16", "float32", "float64")
VALUES = ("offset", "tiny", "huge", "nan", "infinite", "constant", "zeros", "ties")

MATRICES = [
    *(
        Data(shape, dtype)
        for shape in ((1, 7), (2, 1), (17, 5), (129, 33))
        for dtype in (*FLOATS, "int32", "int64", "bool")
    ),
    *(Data(shape, dtype) for shape in ((4099, 67), (33, 2003)) for dtype in (*FLOATS, "int32")),
    *(Data(shape, dtype) for shape in ((60_007, 3), (70_001, 1)) for dtype in FLOATS[1:]),
    *(Data((131, 19), "float32", values=values) for values in VALUES),
    *(Data((131, 19), "float16", values=values) for values in VALUES if values != "offset"),
    *(Data((5003, 21), "float64", values=values) for values in VALUES),
    *(
        Data((997, 12), dtype, layout, "nan")
        for layout in ("F", "strided", "reversed", "unaligned", "swapped")
        for dtype in ("float32", "float64")
    ),
    *(Data((501, 10), "int32", layout) for layout in ("F", "strided", "reversed", "swapped")),
    Data((1_000_003, 1)),
    Data((125_003, 8), "float32", values="offset"),
    Data((15_629, 64), "float64", "F"),
]
BATCHES = [
    *(Data(shape, dtype) for shape in ((2, 3), (19, 7), (301, 65)) for dtype in (*FLOATS, "int32")),
    *(Data(shape, dtype) for shape in ((2, 3, 5, 7), (13, 6, 9, 11)) for dtype in FLOATS),
    *(Data((7, 5, 3, 12), dtype, axis=3) for dtype in (*FLOATS, "bool")),
    *(Data((5, 7, 33), dtype, axis=0) for dtype in FLOATS[1:]),
    *(Data((9, 20, 49), "float32", values=values) for values in VALUES),
    *(Data((61, 20), "float64", values=values) for values in VALUES),
    *(Data((9, 4, 31), "float16", values=values) for values in VALUES[1:]),
    *(
        Data((6, 8, 5, 7), dtype, layout)
        for layout in ("F", "strided", "permuted", "reversed", "unaligned", "swapped")
        for dtype in ("float32", "float64")
    ),
    *(Data((203, 9), "float32", layout) for layout in ("F", "strided", "reversed")),
    Data((1, 3, 301)),
    Data((3001, 129)),
    Data((8, 64, 14, 14)),
    Data((5, 3, 100, 97), "float64"),
    Data((6, 13, 13, 96), axis=3),
    Data((16, 17, 61, 61)),
]


def computed(builds: Mapping[str, nc.Backend]) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each case, a build of the CPU backend or the reference, and the hash."""
    small = dict(builds)
    large = {name: backend for name, backend in builds.items() if name != "reference"}
    for case in folding():
        for build, backend in small.items():
            yield case.name, build, outcome(case.compute, backend)
    families = [
        (MATRICES, (statistics, scalers)),
        (BATCHES, (batch_norms, layer_norms)),
    ]
    for arrays, kinds in families:
        for data in arrays:
            chosen = small if prod(data.shape) <= SMALL else large
            if not chosen:
                continue
            x = data.array()
            for kind in kinds:
                for case in kind(x, data):
                    for build, backend in chosen.items():
                        yield f"{case.name}: {data}", build, outcome(case.compute, backend)


def outcome(compute: Any, backend: nc.Backend) -> str:
    """Return the hash of a result, or the name of the exception."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = compute(backend)
    except (ValueError, TypeError) as error:
        return type(error).__name__
    digest = hashlib.sha256()
    for array in arrays_of(result):
        strides = [
            stride for stride, size in zip(array.strides, array.shape, strict=True) if size > 1
        ]
        digest.update(f"{array.dtype.str} {array.shape} {strides}".encode())
        if array.dtype.kind == "f":  # which NaN it is, is not promised
            array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def arrays_of(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, tuple | list):
        for each in value:
            yield from arrays_of(each)
    elif hasattr(value, "to_state"):
        state = value.to_state()
        for name in sorted(state):
            yield np.asarray(state[name])
    else:
        yield np.asarray(value)


def available() -> dict[str, nc.Backend]:
    """Return the CPU backend in each build that the processor can run."""
    builds = {}
    for name in BUILDS:
        try:
            builds[name] = CpuBackend(name)
        except ValueError:
            continue
    return builds


def write() -> None:
    """Write the table."""
    table: dict[str, dict[str, str]] = {}
    for name, build, hashed in computed(available() | {"reference": nc.get_backend("reference")}):
        column = "reference" if build == "reference" else "cpu"
        if table.setdefault(name, {}).setdefault(column, hashed) != hashed:
            raise SystemExit(f"{name}: {build} gives another result than the builds before it")
    lines = (f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(table)} cases, {sum(map(len, table.values()))} hashes")


if __name__ == "__main__":
    write()
