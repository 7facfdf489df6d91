"""Batch norm layers from those of other frameworks, and to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from normcore.batchnorm.framework_names import FLAX, KERAS, ONNX, TORCH, Convention
from normcore.batchnorm.layer_state import LayerState
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import check_choice
from normcore.registration.exporting import Exporting

__all__ = ["FrameworkConversions"]

#: Options by a framework's names, as its own classes take them.
Options: TypeAlias = dict[str, Any]


class FrameworkConversions(Exporting, LayerState):
    """What BatchNorm has to do with the batch norms of PyTorch, Keras, Flax and ONNX.

    None of them is needed, but for PyTorch in :meth:`to_torch`.
    """

    @classmethod
    def from_torch(cls, module: Any) -> Self:
        """Return a layer with the state, options and mode of a PyTorch module.

        Parameters
        ----------
        module : torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or SyncBatchNorm
            Or a module of ``normcore.torch`` of that name, which may be frozen. The statistics of
            the new layer are those of its own process.

        Returns
        -------
        BatchNorm
            With ``axis=1`` and ``ddof=1``; what it holds are copies.

        Raises
        ------
        TypeError
            If it is no such module.
        ValueError
            If its running statistics are for evaluation alone, or are of the wrong shape.

        Examples
        --------
        >>> import normcore as nc
        >>> import torch
        >>> nc.BatchNorm.from_torch(torch.nn.BatchNorm2d(3, momentum=None))
        BatchNorm(3, axis=1, eps=1e-05, momentum=None, affine=True, track_running_stats=True)
        """
        if not any(each.__name__ == "_BatchNorm" for each in type(module).__mro__):
            raise TypeError(
                "from_torch needs a batch norm module of PyTorch or normcore.torch, not "
                f"{type(module).__qualname__}"
            )
        arrays = {name: getattr(module, name) for name in TORCH.vectors}
        tracked = arrays["running_mean"] is not None
        if tracked and not module.track_running_stats:
            raise ValueError(
                "the module has running statistics that it uses in evaluation and does not update "
                "(track_running_stats=False), which BatchNorm has no option for"
            )
        options = {
            "eps": module.eps,
            "momentum": module.momentum,
            "track_running_stats": tracked,
            "has_gamma": arrays["weight"] is not None,
            "has_beta": arrays["bias"] is not None,
            "training": module.training,
            "trainable": not getattr(module, "frozen", False),
        }
        vectors = {name: value for name, value in arrays.items() if value is not None}
        layer = TORCH.build(cls, vectors or module.num_features, options)
        if tracked and module.num_batches_tracked is not None:
            layer.num_batches_tracked = int(module.num_batches_tracked)
        return layer

    def to_torch(self, dims: int, *, dtype: object = None, device: object = None) -> Any:
        """Return a PyTorch module with the state, options and mode of this layer.

        Parameters
        ----------
        dims : {1, 2, 3}
            Of positions, as in the names of the classes: which one of ``torch.nn.BatchNorm1d``,
            ``BatchNorm2d`` and ``BatchNorm3d`` it is.
        dtype, device
            As PyTorch's modules take them.

        Returns
        -------
        torch.nn.Module
            Without `gamma` its weight is 1 and has no gradient, and without `beta` there is no
            bias.

        Raises
        ------
        ImportError
            If there is no PyTorch.
        ValueError
            If the layer has options that PyTorch's modules do not have; where these only matter
            in training, as `ddof` does, a copy of the layer may be given others.

        Examples
        --------
        >>> import normcore as nc
        >>> nc.BatchNorm(3, decay=0.75).to_torch(2).momentum
        0.25
        """
        check_choice("dims", dims, (1, 2, 3))
        try:
            import torch
        except ImportError:
            raise ImportError(
                "to_torch needs PyTorch: pip install 'normcore-arrays[torch]'"
            ) from None
        dtype = torch.get_default_dtype() if dtype is None else dtype
        vectors, options = TORCH.write(self, torch.finfo(dtype).max)
        module = getattr(torch.nn, f"BatchNorm{dims}d")(
            self.num_features, affine=bool(self.affine), dtype=dtype, device=device, **options
        )
        with torch.no_grad():
            for name, vector in vectors.items():
                getattr(module, name).copy_(torch.from_numpy(np.array(vector)))
        if self.affine == "gamma":
            module.bias = None
        elif self.affine == "beta":  # PyTorch's layers would initialize a weight that is None
            module.weight.requires_grad_(False)
        if self.track_running_stats:
            module.num_batches_tracked.fill_(self.num_batches_tracked)
        return module.train(self.training)

    @classmethod
    def from_keras(cls, arrays: Array, *, renorm: bool = False, **config: object) -> Self:
        """Return a layer with the weights and configuration of Keras's BatchNormalization.

        Parameters
        ----------
        arrays : sequence of arrays, mapping, or int
            As ``layer.get_weights()`` returns them: gamma unless ``scale=False``, beta unless
            ``center=False``, the moving mean and the moving variance. Or the same by name:
            "gamma", "beta", "moving_mean" and "moving_variance". A number of channels makes a new
            layer of Keras's defaults.
        renorm : bool
            Must be False: Keras's batch renormalization keeps statistics of its own.
        **config
            Keras's arguments, such as ``**layer.get_config()``: ``axis=-1``, ``momentum=0.99``,
            the weight of the old value, ``epsilon=1e-3``, ``center=True``, ``scale=True`` and
            ``trainable=True``, whose opposite is `frozen`. What concerns names, dtypes, replicas,
            optimizers and, where arrays are given, initial values, is left out.

        Returns
        -------
        BatchNorm
            With ``ddof=0``, in training mode.

        Raises
        ------
        TypeError
            If an option is none of Keras's.
        ValueError
            If there are other arrays than the options say, or of other shapes, if a variance is
            negative, or an option is out of range.

        Examples
        --------
        >>> import normcore as nc
        >>> nc.BatchNorm.from_keras([[2.0], [1.0], [0.5], [4.0]], momentum=0.75, axis=1)
        BatchNorm(1, axis=1, eps=0.001, momentum=0.25, affine=True, track_running_stats=True, ddof=0)
        """  # noqa: E501
        if renorm:
            raise ValueError("Keras's renorm=True keeps statistics that BatchNorm does not have")
        return KERAS.read(cls, arrays, config)

    def to_keras(self, *, dtype: DTypeLike = np.float32) -> tuple[list[np.ndarray], Options]:
        """Return weights and configuration for Keras's BatchNormalization.

        Parameters
        ----------
        dtype : NumPy dtype
            Of the weights.

        Returns
        -------
        weights : list of arrays
            For ``layer.set_weights``, once the layer is built.
        config : dict
            Arguments of the layer.

        Raises
        ------
        ValueError
            If this layer has options that Keras's does not have.

        Examples
        --------
        >>> import normcore as nc
        >>> weights, config = nc.BatchNorm(1, ddof=0, affine="beta").to_keras()
        >>> weights
        [array([0.], dtype=float32), array([0.], dtype=float32), array([1.], dtype=float32)]
        >>> config["momentum"], config["scale"]
        (0.9, False)
        """
        arrays, config = _arrays(KERAS, self, dtype)
        return list(arrays.values()), config

    @classmethod
    def from_flax(cls, variables: Mapping[str, Array] | int, **options: object) -> Self:
        """Return a layer with the variables and options of Flax's BatchNorm, linen's or nnx's.

        Parameters
        ----------
        variables : mapping, or int
            Of linen ``{"params": {"scale", "bias"}, "batch_stats": {"mean", "var"}}``; of nnx the
            four without the collections, as ``nnx.state(layer)`` is. A number of channels makes a
            new layer of Flax's defaults.
        **options
            Flax's arguments: ``axis=-1``, ``momentum=0.99``, the weight of the old value,
            ``epsilon=1e-5``, ``use_bias=True`` and ``use_scale=True``.

        Returns
        -------
        BatchNorm
            With ``ddof=0``, in training mode.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`from_keras`.

        Examples
        --------
        >>> import normcore as nc
        >>> variables = {"batch_stats": {"mean": [1.0], "var": [4.0]}}
        >>> bn = nc.BatchNorm.from_flax(variables, use_scale=False, use_bias=False)
        >>> bn.running_var, bn.decay
        (array([4.]), 0.99)
        """
        if isinstance(variables, Mapping) and "batch_stats" in variables:
            variables = {**variables.get("params", {}), **variables["batch_stats"]}
        return FLAX.read(cls, variables, options)

    def to_flax(
        self, *, dtype: DTypeLike = np.float32
    ) -> tuple[dict[str, dict[str, np.ndarray]], Options]:
        """Return variables and options for Flax's BatchNorm.

        Parameters
        ----------
        dtype : NumPy dtype
            Of the variables.

        Returns
        -------
        variables : dict
            ``{"params": {"scale", "bias"}, "batch_stats": {"mean", "var"}}``, as linen's
            ``apply`` takes them.
        options : dict
            Arguments of the module. The mode is not among them: Flax takes it where the module is
            called.

        Raises
        ------
        ValueError
            If this layer has options that Flax's does not have.
        """
        arrays, options = _arrays(FLAX, self, dtype)
        statistics = {name: arrays.pop(name) for name in ("mean", "var")}
        return {"params": arrays, "batch_stats": statistics}, options

    @classmethod
    def from_onnx(cls, arrays: Array, **attributes: object) -> Self:
        """Return a layer with the inputs and attributes of an ONNX BatchNormalization node.

        Parameters
        ----------
        arrays : sequence of arrays, mapping, or int
            The inputs but the first: scale, B, input_mean and input_var. A number of channels
            makes a new layer of ONNX's defaults.
        **attributes
            Those of the node: ``epsilon=1e-5``, ``momentum=0.9``, the weight of the old value,
            and ``training_mode=0``, which is the mode of the layer.

        Returns
        -------
        BatchNorm
            With ``axis=1`` and ``ddof=0``.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`from_keras`.

        Examples
        --------
        >>> import normcore as nc
        >>> bn = nc.BatchNorm.from_onnx([[1.0], [0.0], [3.0], [4.0]], epsilon=1e-3)
        >>> bn([[3.0], [5.0]]).round(3)
        array([[0.],
               [1.]])
        """
        return ONNX.read(cls, arrays, attributes)

    def to_onnx(self, *, dtype: DTypeLike = np.float32) -> tuple[list[np.ndarray], Options]:
        """Return inputs and attributes for an ONNX BatchNormalization node (opset 15).

        Parameters
        ----------
        dtype : NumPy dtype
            Of the inputs.

        Returns
        -------
        inputs : list of arrays
            The vectors scale, B, input_mean and input_var; ones and zeros for a `gamma` and `beta`
            that this layer does not have.
        attributes : dict
            ``training_mode`` is 1 for a layer in training that is not frozen.

        Raises
        ------
        ValueError
            If this layer has options that the node does not have.
        """
        arrays, attributes = _arrays(ONNX, self, dtype)
        channels = len(arrays["input_mean"])
        arrays.setdefault("scale", np.ones(channels, dtype))
        arrays.setdefault("B", np.zeros(channels, dtype))
        return [arrays[name] for name in ONNX.vectors], attributes


def _arrays(
    convention: Convention, layer: LayerState, dtype: DTypeLike
) -> tuple[dict[str, np.ndarray], Options]:
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise TypeError(f"dtype must be one of floats, got {dtype}")
    vectors, options = convention.write(layer, float(np.finfo(dtype).max))
    return {name: vector.astype(dtype) for name, vector in vectors.items()}, options
