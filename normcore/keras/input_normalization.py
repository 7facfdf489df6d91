"""Keras's normalization of inputs, with statistics that normcore streams."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np

from normcore.io.opening import Source, is_dataset
from normcore.io.pipeline import fit_source
from normcore.io.table import TableSource
from normcore.keras.operations import Tensor, serializable
from normcore.scaling import StandardScaler
from normcore.scaling.containers.sparse import is_sparse

__all__ = ["Normalization"]


@serializable
class Normalization(keras.layers.Normalization):
    """:class:`keras.layers.Normalization`, adapted by normcore.

    Arguments, weights and configuration are those of :class:`keras.layers.Normalization`, and so is
    the map.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore.keras as nk
    >>> layer = nk.Normalization()
    >>> layer.adapt(batch for batch in (np.array([[1.0], [2.0]]), np.array([[6.0]])))
    >>> layer.get_weights()[0].tolist()
    [3.0]
    """

    __module__ = "normcore.keras"

    def adapt(self, data: Tensor | Source | Iterable[Tensor]) -> None:
        """Learn mean and variance, as :class:`normcore.StandardScaler` does, in one pass.

        What was learned before is forgotten; after an error it is as it was.

        Parameters
        ----------
        data : array or tensor, table, path, PyDataset, or iterable of batches
            Tables and files are those of :func:`normcore.fit_source`: all their numeric columns.
            An iterable's batches may be of any sizes, and tuples or lists whose first element is
            the inputs: a generator, a DataLoader of PyTorch, a `tf.data.Dataset`.

        Raises
        ------
        TypeError
            If it is nothing of these, or a batch is sparse or no array.
        ValueError
            If there is no data, it holds infinity, or its shape does not fit; missing values (NaN,
            and those of masked arrays) are left out. Also if mean and variance were given to the
            layer.
        """
        if self.input_mean is not None:
            raise ValueError("this Normalization was given its mean and variance; adapt has no use")
        if self._is_table(data):
            scaler, shape = self._of_table(data)
        else:
            scaler, shape = self._of_batches(_batches(data))
        if not self.built:
            self.build(shape)
        for weight, found in (
            (self.adapt_mean, scaler.mean_), (self.adapt_variance, scaler.var_),
        ):  # fmt: skip
            weight.assign(np.reshape(found, self._mean_and_var_shape).astype(weight.dtype))
        self.finalize_state()

    def _is_table(self, data: Tensor | Source | Iterable[Tensor]) -> bool:
        """Whether data has named columns; an array may be an Arrow stream, too.

        One column of a frame has no feature axis, so it is an array only where all axes are
        reduced.
        """
        if isinstance(data, str | os.PathLike | TableSource) or is_dataset(data):
            return True
        is_array = hasattr(type(data), "dtype") and (not self.axis or getattr(data, "ndim", 1) > 1)
        return hasattr(data, "__arrow_c_stream__") and not is_array

    def _of_table(self, source: Source) -> tuple[StandardScaler, tuple[int | None, ...]]:
        if self.axis not in ((-1,), (1,)):
            raise ValueError(
                f"a table has its features on its last axis, but this Normalization has "
                f"axis={self.axis or None}"
            )
        scaler = StandardScaler()
        fit_source(source, scaler)
        shape = (None, scaler.n_features_in_)
        self._check_shape(shape)
        return scaler, shape

    def _of_batches(
        self, batches: Iterator[Tensor]
    ) -> tuple[StandardScaler, tuple[int | None, ...]]:
        scaler, shape = StandardScaler(axis=self.axis or None), None
        for number, batch in enumerate(batches):
            array = _inputs_of(batch)
            if shape is None:
                shape = tuple(array.shape)
                self._check_shape(shape)
            if array.ndim != len(shape):
                raise ValueError(
                    f"batches must have the same axes: batch 0 has shape {shape}, but batch "
                    f"{number} has shape {array.shape}"
                )
            counts = {}
            if isinstance(array, np.ma.MaskedArray):
                counts["where"] = ~np.ma.getmaskarray(array)
            scaler.partial_fit(np.asarray(array), **counts)
        if shape is None:
            raise ValueError("there is no batch to adapt a Normalization to")
        return scaler, shape

    def _check_shape(self, shape: tuple[int | None, ...]) -> None:
        """Refuse data of other sizes than those that the layer was built for."""
        if not self.built:
            return
        expected = self._build_input_shape
        if len(shape) != len(expected) or any(
            shape[axis] != expected[axis] for axis in self._keep_axis
        ):
            raise ValueError(
                f"this Normalization was built for inputs of shape {tuple(expected)} and has "
                f"axis={self.axis}, but adapt was given data of shape {shape}"
            )


def _batches(data: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
    if isinstance(data, keras.utils.PyDataset):
        return (data[number] for number in range(data.num_batches))
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return iter([data])
    if isinstance(data, Mapping) or not (hasattr(data, "__iter__") or hasattr(data, "__len__")):
        lazy = ", from a lazy frame what collect() returns" if hasattr(data, "collect") else ""
        raise TypeError(
            f"a Normalization adapts to an array, a table, a path or an iterable of batches, not "
            f"to {type(data).__name__}{lazy}"
        )
    return iter(data)


def _inputs_of(batch: Tensor) -> np.ndarray:
    """Return the inputs of a batch, which may be beside targets and weights, on the host."""
    if isinstance(batch, tuple | list) and len(batch):
        first = batch[0]
        batch = first if hasattr(first, "shape") or isinstance(first, Mapping) else batch
    if batch is None or isinstance(batch, Mapping):
        raise TypeError(
            f"a Normalization adapts to batches that are arrays, not {type(batch).__name__}; "
            "choose one input"
        )
    if is_sparse(batch):
        raise TypeError(
            "a Normalization adapts to dense arrays; convert sparse ones with toarray(), a batch "
            "at a time"
        )
    if isinstance(batch, np.ma.MaskedArray):  # an array would lose the mask
        return batch
    if keras.ops.is_tensor(batch):
        batch = keras.ops.convert_to_numpy(batch)
    return np.asarray(batch)
