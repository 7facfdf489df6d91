"""The page: what was tried, as tables."""

import warnings
from collections.abc import Iterator, Mapping, Sequence

from support_matrix import exports, files, layers, on_jax, on_keras, on_ranks, on_torch, scalers
from support_matrix.inputs import DTYPES

__all__ = ["page"]

INTRODUCTION = """\
# What works with what

Nobody typed this page: `python docs/support_matrix` tries each combination on a small table, on the
backends `cpu` and `reference`, and compares each result with that of float64 in NumPy, or of the
library whose face it is. A wrong number ends it; so do backends that disagree. A test makes the
page anew and compares. Where a cell says **no**, a clear error says so. Rows and columns that are
alike are one.

Not tried here is the CUDA backend: [its page](gpu.md) says what is known of it. What scalers and
layers do beside giving results of a dtype is tried in float64 alone, Keras's in float32.
"""

DTYPES_OF = """\
## Scalers: the dtype of results

The dtype that `transform` returns, for each kind and dtype of input, after a `fit` to the same. An
empty cell: the kind has no such dtype. Sparse matrices are tried with the parameters that keep
zeros (`with_mean=False`, `with_centering=False`). `object` holds decimals. ColumnScaler is tried
with two StandardScalers: it takes and gives what its scalers do.
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

EXPORTS_OF = """\
## Exports

The dtypes for which a [form](export.md) gives what `transform` gives: bit by bit, but those of
`"sklearn"` and of layers, whose arithmetic is another one.
"""

FILES_OF = """\
## Files

What is done with [tables](tables.md) in each format that is registered.
"""

STREAMS_OF = """\
## Tables of other libraries

What `fit_source` and `transform_source` take beside names of files.
"""

TORCH_OF = """\
## PyTorch

Each module of [normcore.torch](torch.md) beside PyTorch's of the same state: the dtype of results
where parameters have the dtype of the input, and where they are float32.
"""

TOOLS_OF = """\
### PyTorch's tools

In float64, of the modules of 1, 2 and 3 dimensions those of 2. `torch.compile` is of one graph,
backward pass included. `DistributedDataParallel` runs in two processes.
"""

JAX_OF = """\
## JAX

Each function of [normcore.jax](jax.md) on the host, with `jax_enable_x64`: the dtype of results for
each dtype of `x`, and what JAX makes of the function in float64.
"""

KERAS_OF = """\
## Keras

Each layer of [normcore.keras](keras.md) beside Keras's of the same weights, on each backend: the
dtype of results under each policy, and what is done with a layer of float32. "Compiled" is by
`torch.compile` and `jax.jit`. "Weights, files": those of Keras's layers load, and the other way
round; a `.keras` file gives the layer back.
"""


def joined(rows: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return rows of which those that are alike have become one, named for all."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, cells in rows.items():
        alike.setdefault(tuple(cells), []).append(name)
    return {"; ".join(names): cells for cells, names in alike.items()}


def turned(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return columns as rows."""
    return dict(zip(columns, zip(*rows.values(), strict=True), strict=True))


def table(
    first: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]], *, narrow: bool = False
) -> str:
    """Return rows of cells as a table; rows that are alike become one, and columns if asked."""
    rows = joined(rows)
    if narrow:
        shorter = joined(turned(columns, rows))
        columns, rows = list(shorter), turned(list(rows), shorter)
    lines = [" | ".join([first, *columns]), " | ".join("---" for _ in [first, *columns])]
    lines += [" | ".join([name, *cells]) for name, cells in rows.items()]
    return "".join(f"| {each} |\n" for each in lines)


def of_scalers() -> Iterator[str]:
    yield DTYPES_OF
    for name in scalers.SCALERS:
        rows = scalers.scaler_dtypes(name)
        yield f"### {name}, dtypes\n\n" + table("input", DTYPES, rows)
    yield FEATURES_OF
    for name in scalers.SCALERS:
        rows = scalers.scaler_features(name)
        yield f"### {name}, methods\n\n" + table("input", list(scalers.FEATURES), rows)


def of_layers() -> Iterator[str]:
    yield LAYERS_OF
    for name in layers.LAYERS:
        rows = {kind: layers.layer_row(name, kind) for kind in layers.LAYER_KINDS}
        columns = [*layers.LAYER_DTYPES, *layers.LAYER_FEATURES]
        yield f"### {name}\n\n" + table("arrays", columns, rows)


def of_exports() -> Iterator[str]:
    yield EXPORTS_OF
    yield "### Scalers\n\n" + table("scaler", exports.FORMATS, exports.scaler_exports())
    rows = exports.scaler_exports(inverse=True)
    yield "### Inverses of scalers\n\n" + table("scaler", exports.FORMATS, rows)
    yield "### Of layers\n\n" + table("layer", exports.FORMATS, exports.layer_exports())


def of_files() -> Iterator[str]:
    yield FILES_OF
    yield table("suffix", list(files.FILE_FEATURES), files.file_rows())
    yield STREAMS_OF
    yield table("object", list(files.STREAM_FEATURES), files.stream_rows())


def of_torch(on_processes: Mapping[str, str]) -> Iterator[str]:
    yield TORCH_OF
    columns = [*on_torch.MODULE_DTYPES, *(f"{each}, float32" for each in on_torch.NARROW)]
    yield table("module", columns, {name: on_torch.module_row(name) for name in on_torch.MODULES})
    yield TOOLS_OF
    columns = [*on_torch.MODULE_FEATURES, "`DistributedDataParallel`"]
    rows = {
        name: [
            *(on_torch.module_feature(name, each) for each in on_torch.MODULE_FEATURES),
            on_processes[name],
        ]
        for name in on_torch.TOOLED
    }
    yield table("module", columns, rows, narrow=True)


def of_jax() -> Iterator[str]:
    yield JAX_OF
    rows = {name: on_jax.function_row(name) for name in on_jax.FUNCTIONS}
    columns = [*on_jax.FUNCTION_DTYPES, *on_jax.FUNCTION_FEATURES]
    yield table("function", columns, rows, narrow=True)


def of_keras() -> Iterator[str]:
    yield KERAS_OF
    yield table("layer, backend", on_keras.KERAS_COLUMNS, on_keras.on_backends())


def page() -> str:
    """Try everything, and return the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries; results are what counts here
        on_processes = on_ranks.in_processes()
        parts = [INTRODUCTION, *of_scalers(), *of_layers(), *of_exports(), *of_files()]
        parts += [*of_torch(on_processes), *of_jax(), *of_keras()]
    return "\n".join(parts)
