"""One small table of positive whole numbers, as every kind of input and every dtype there is."""

from collections.abc import Callable
from decimal import Decimal

import numpy as np

__all__ = ["DTYPES", "KINDS", "VALUES", "arrays", "dense"]

#: Every value is exact in every dtype of numbers but bool, and ordinary to every scaler.
VALUES = np.array(
    [[1, 5, 9], [2, 3, 7], [4, 8, 1], [3, 1, 4], [8, 2, 6], [6, 7, 2], [5, 9, 3], [7, 4, 5]], float
)

#: Names of the columns of the page.
DTYPES = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "longdouble",
    "int64",
    "int32",
    "uint8",
    "bool",
    "object",
)


def typed(x: np.ndarray, dtype: str, limit: float) -> np.ndarray:
    """Return an array in a dtype of NumPy, or of ml_dtypes; as bool, what is above a limit."""
    if dtype == "bool":
        return x > limit
    if dtype == "object":
        return np.vectorize(lambda each: Decimal(int(each)), otypes=[object])(x)
    if dtype == "bfloat16":
        import ml_dtypes

        return x.astype(ml_dtypes.bfloat16)
    return x.astype(dtype)


def numpy_fortran(x: np.ndarray) -> object:
    return np.asfortranarray(x)


def numpy_strided(x: np.ndarray) -> object:
    wide = np.zeros((2 * len(x), 2 * x.shape[1]), dtype=x.dtype)
    wide[::2, ::2] = x
    return wide[::2, ::2]


def nested_lists(x: np.ndarray) -> object:
    return x.tolist()


def masked(x: np.ndarray) -> object:
    return np.ma.masked_array(x)


def tensor(x: np.ndarray) -> object:
    import torch

    if x.dtype.name == "bfloat16":
        return torch.tensor(x.astype(np.float32)).to(torch.bfloat16)
    return torch.tensor(x)


def strict(x: np.ndarray) -> object:
    import array_api_strict

    return array_api_strict.asarray(x)


def pandas_frame(x: np.ndarray) -> object:
    import pandas as pd

    return pd.DataFrame(x, columns=list("abc"))


def polars_frame(x: np.ndarray) -> object:
    import polars as pl

    if x.dtype == object:
        return pl.DataFrame({name: list(x[:, i]) for i, name in enumerate("abc")})
    return pl.DataFrame({name: np.ascontiguousarray(x[:, i]) for i, name in enumerate("abc")})


def polars_lazy(x: np.ndarray) -> object:
    return polars_frame(x).lazy()


def arrow_table(x: np.ndarray) -> object:
    import pyarrow as pa

    return pa.table({name: pa.array(list(x[:, i])) for i, name in enumerate("abc")})


def csr(x: np.ndarray) -> object:
    import scipy.sparse

    return scipy.sparse.csr_array(x)


def csc(x: np.ndarray) -> object:
    import scipy.sparse

    return scipy.sparse.csc_array(x)


def dask_array(x: np.ndarray) -> object:
    import dask.array

    return dask.array.from_array(x, chunks=(3, 2))


def dask_frame(x: np.ndarray) -> object:
    import dask.dataframe

    return dask.dataframe.from_pandas(pandas_frame(x), npartitions=2)


def xarray_over_dask(x: np.ndarray) -> object:
    import xarray

    return xarray.DataArray(dask_array(x), dims=("time", "sensor"))


ALL = frozenset(DTYPES)
NUMBERS = frozenset({"float64", "float32", "int64", "int32", "uint8", "bool"})

#: What makes the input of numbers in memory, and the dtypes that the kind has.
KINDS: dict[str, tuple[Callable[[np.ndarray], object], frozenset[str]]] = {
    "NumPy, C order": (lambda x: x, ALL),
    "NumPy, Fortran order": (numpy_fortran, ALL),
    "NumPy, with gaps": (numpy_strided, ALL),
    "nested lists": (nested_lists, frozenset({"float64", "int64", "bool", "object"})),
    "masked array": (masked, ALL - {"bfloat16", "object"}),
    "PyTorch, on the host": (tensor, ALL - {"longdouble", "object"}),
    "array_api_strict": (strict, NUMBERS),
    "pandas frame": (pandas_frame, (NUMBERS | {"object"})),
    "polars frame": (polars_frame, (NUMBERS | {"object"})),
    "polars lazy frame": (polars_lazy, (NUMBERS | {"object"})),
    "Arrow table": (arrow_table, (NUMBERS | {"float16", "object"})),
    "SciPy CSR": (csr, NUMBERS),
    "SciPy CSC": (csc, NUMBERS),
    "Dask array": (dask_array, NUMBERS | {"float16"}),
    "Dask frame": (dask_frame, NUMBERS),
    "xarray over Dask": (xarray_over_dask, NUMBERS | {"float16"}),
}


def arrays(kind: str, dtype: str) -> object:
    """Return the table as an input of a kind and a dtype."""
    return KINDS[kind][0](typed(VALUES, dtype, 4))


def dense(result: object) -> np.ndarray:
    """Return a result of any kind in memory of the host, in its own dtype."""
    for method in ("collect", "compute"):
        if hasattr(result, method):
            result = getattr(result, method)()
    if hasattr(result, "toarray"):
        result = result.toarray()
    if type(result).__module__.startswith("torch"):
        import torch

        result = result.detach()
        if result.dtype == torch.bfloat16:
            import ml_dtypes

            return result.float().numpy().astype(ml_dtypes.bfloat16)
        return result.numpy()
    if hasattr(result, "column_names") and hasattr(result, "to_pandas"):
        return np.column_stack([each.to_numpy() for each in result.columns])
    if hasattr(result, "to_numpy"):
        return np.asarray(result.to_numpy())
    return np.asarray(result)
