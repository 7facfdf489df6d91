"""The page: what was tried, as tables."""

import warnings
from collections.abc import Mapping, Sequence

from support_matrix.inputs import DTYPES
from support_matrix.layers import (
    LAYER_DTYPES,
    LAYER_FEATURES,
    LAYER_KINDS,
    LAYERS,
    layer_row,
)
from support_matrix.scalers import FEATURES, SCALERS, scaler_dtypes, scaler_features

__all__ = ["page"]

INTRODUCTION = """\
# What works with what

Nobody typed this page: `python docs/support_matrix` tries each combination on a small table, on the
backends `cpu` and `reference`, and compares each result with that of float64 in NumPy. A wrong
number ends it; so do backends that disagree. A test makes the page anew and compares. Where a cell
says **no**, a clear error says so.
"""

DTYPES_OF = """\
## Scalers: the dtype of results

The dtype that `transform` returns, for each kind and dtype of input, after a `fit` to the same. An
empty cell: the kind has no such dtype. Sparse matrices are tried with the parameters that keep
zeros (`with_mean=False`, `with_centering=False`). `object` holds decimals.
"""

FEATURES_OF = """\
## Scalers: what they do with each kind of input

In float64. Each result is that of one `fit` to all rows. "Sketch, merged" is `partial_fit` and
`merge` with `quantiles="sketch"`.
"""

LAYERS_OF = """\
## Layers

The dtype of results for each dtype of input, and what they do, in float64.
"""


def table(first: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Return rows of cells as a table; rows that are alike become one."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, cells in rows.items():
        alike.setdefault(tuple(cells), []).append(name)
    lines = [" | ".join([first, *columns]), " | ".join("---" for _ in [first, *columns])]
    lines += [" | ".join(["; ".join(names), *cells]) for cells, names in alike.items()]
    return "".join(f"| {each} |\n" for each in lines)


def page() -> str:
    """Try everything, and return the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries; results are what counts here
        parts = [INTRODUCTION, DTYPES_OF]
        for name in SCALERS:
            parts.append(f"### {name}, dtypes\n\n" + table("input", DTYPES, scaler_dtypes(name)))
        parts.append(FEATURES_OF)
        for name in SCALERS:
            rows = scaler_features(name)
            parts.append(f"### {name}, methods\n\n" + table("input", list(FEATURES), rows))
        parts.append(LAYERS_OF)
        for name in LAYERS:
            rows = {kind: layer_row(name, kind) for kind in LAYER_KINDS}
            parts.append(
                f"### {name}\n\n" + table("arrays", [*LAYER_DTYPES, *LAYER_FEATURES], rows)
            )
    return "\n".join(parts)
