"""What other frameworks call the vectors and options of batch norm: tables for both directions."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from normcore.batchnorm.layer_state import AFFINE, LayerState
from normcore.layout.namespace import Array, to_numpy

__all__ = ["FLAX", "KERAS", "ONNX", "TORCH", "Convention"]

_VECTORS = ("gamma", "beta", "running_mean", "running_var")
_AFFINE_OF = {parameters: affine for affine, parameters in AFFINE.items()}

# Arguments of BatchNorm that every framework has in some way, and the one that none needs to.
_EVERYWHERE = {"num_features", "affine", "eps", "momentum", "decay", "backend"}


_Layer = TypeVar("_Layer", bound=LayerState)


@dataclass(frozen=True, slots=True)
class Convention:
    """The batch norm of one framework.

    Parameters
    ----------
    framework : str
    vectors : tuple of str
        Its names of gamma, beta, the running mean and the running variance, in its order.
    options : dict
        Its options, each with the name that :func:`_describe` has for it and its default. One
        called momentum stands for `momentum`, the weight of the new batch, or for `decay`, that
        of the old value.
    fixed : dict
        Attributes of BatchNorm that have just this value there. The arguments of BatchNorm that
        are not among the options have their default.
    ignored : frozenset of str
        Options of initial values, optimizers and replicas, which given arrays leave nothing to do.
    """

    framework: str
    vectors: tuple[str, str, str, str]
    options: dict[str, tuple[str, object]]
    fixed: dict[str, object]
    ignored: frozenset[str] = frozenset()

    def read(
        self, kind: Callable[..., _Layer], arrays: Array, given: Mapping[str, object]
    ) -> _Layer:
        """Return a layer of the framework's arrays, or of a number of channels, and its options."""
        fresh = isinstance(arrays, numbers.Integral)
        for name, value in given.items():
            if name not in self.options and (fresh or name not in self.ignored):
                raise TypeError(
                    f"{name!r} is no option that is taken from {self.framework}'s batch norm"
                    f"{' for a new layer' if fresh else ''}; there are {', '.join(self.options)}"
                )
            if value is None and name in self.options:
                raise TypeError(f"{self.framework}'s {name} must not be None")
        named = self.options.items()
        options = {ours: given.get(theirs, default) for theirs, (ours, default) in named}
        return self.build(kind, arrays, options)

    def build(
        self, kind: Callable[..., _Layer], arrays: Array, options: Mapping[str, object]
    ) -> _Layer:
        """Return a layer as :meth:`read` does, of options named as in :func:`_describe`."""
        options = {**self.fixed, **options}
        affine = bool(options.get("has_gamma", True)), bool(options.get("has_beta", True))
        tracked = options.get("track_running_stats", True)
        present = zip(self._pairs(), (*affine, tracked, tracked), strict=True)
        pairs = [pair for pair, is_there in present if is_there]
        vectors: dict[str, np.ndarray] = {}
        if not isinstance(arrays, numbers.Integral):
            vectors = self._by_name(arrays, [theirs for _, theirs in pairs])
            arrays = len(next(iter(vectors.values())))
        accepted = ("axis", "eps", "momentum", "decay", "ddof", "track_running_stats")
        arguments = {name: options[name] for name in accepted if name in options}
        layer = kind(arrays, affine=_AFFINE_OF[affine], **arguments)
        for ours, theirs in pairs if vectors else ():
            try:
                setattr(layer, ours, vectors[theirs])
            except ValueError as error:
                raise ValueError(f"{self.framework}'s {theirs}: {error}") from None
        layer.training = bool(options.get("training", True))
        layer.frozen = not options.get("trainable", True)
        return layer

    def write(
        self, layer: LayerState, largest: float
    ) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Return the vectors and options of a layer under the framework's names.

        ``largest`` is the largest number of the dtype that the vectors are for.
        """
        self._check(layer)
        ours = _describe(layer)
        options = {theirs: ours[name] for theirs, (name, _) in self.options.items()}
        vectors = {}
        for name, theirs in self._pairs():
            vector = getattr(layer, name)
            if vector is None:
                continue
            beyond = (np.abs(vector) > largest) & np.isfinite(vector)
            if np.any(beyond):
                raise ValueError(
                    f"{name} is {vector[beyond][0]:g} in channel {int(np.argmax(beyond))}, but "
                    f"the largest number of the dtype is {largest:g}"
                )
            vectors[theirs] = vector
        return vectors, options

    def _pairs(self) -> list[tuple[str, str]]:
        return list(zip(_VECTORS, self.vectors, strict=True))

    def _by_name(self, arrays: Array, names: list[str]) -> dict[str, np.ndarray]:
        """Return vectors under these names; refuse others."""
        expected = f"{self.framework}'s batch norm of these options has {', '.join(names)}"
        if not isinstance(arrays, Mapping):
            arrays = list(arrays)
            if len(arrays) != len(names):
                raise ValueError(f"{expected}, but there are {len(arrays)} arrays")
            arrays = dict(zip(names, arrays, strict=True))
        for name in (*names, *arrays):
            if name not in arrays or name not in names:
                wrong = "is missing" if name in names else "was given too"
                raise ValueError(f"{expected}, but {name} {wrong}")
        vectors = {}
        for name in names:
            value = _on_host(arrays[name])
            if value.ndim != 1 or value.dtype.kind not in "fiubV":  # V: bfloat16 is an extension
                raise ValueError(
                    f"{self.framework}'s {name} must be a vector of real numbers, but has shape "
                    f"{value.shape} and dtype {value.dtype}"
                )
            vectors[name] = value
        return vectors

    def _check(self, layer: LayerState) -> None:
        """Refuse a layer with an option that the framework does not have."""
        named = {ours for ours, _ in self.options.values()}
        arguments = inspect.signature(type(layer)).parameters.values()
        fixed = {each.name: each.default for each in arguments} | self.fixed
        for name in fixed.keys() - named - _EVERYWHERE:
            own, value = getattr(layer, name), fixed[name]
            if own != value and (name != "ddof" or layer.track_running_stats):
                raise ValueError(
                    f"{self.framework}'s batch norm has {name}={value!r}, and no other, but this "
                    f"one has {name}={own!r}"
                )
        if layer.momentum is None and "decay" in named:
            raise ValueError(
                f"{self.framework}'s batch norm has no average of all batches, which this one has, "
                "with momentum=None"
            )


TORCH = Convention(
    "PyTorch",
    vectors=("weight", "bias", "running_mean", "running_var"),
    options={
        "eps": ("eps", 1e-5),
        "momentum": ("momentum", 0.1),
        "track_running_stats": ("track_running_stats", True),
    },
    fixed={"frozen": False},
)
KERAS = Convention(
    "Keras",
    vectors=("gamma", "beta", "moving_mean", "moving_variance"),
    options={
        "axis": ("axis", -1),
        "momentum": ("decay", 0.99),
        "epsilon": ("eps", 1e-3),
        "center": ("has_beta", True),
        "scale": ("has_gamma", True),
        "trainable": ("trainable", True),
    },
    fixed={"ddof": 0},
    ignored=frozenset(
        ["name", "dtype", "synchronized", "renorm_clipping", "renorm_momentum"]
        + [f"{name}_initializer" for name in ("gamma", "beta", "moving_mean", "moving_variance")]
        + [f"{name}_{what}" for name in ("gamma", "beta") for what in ("regularizer", "constraint")]
    ),
)
FLAX = Convention(
    "Flax",
    vectors=("scale", "bias", "mean", "var"),
    options={
        "axis": ("axis", -1),
        "momentum": ("decay", 0.99),
        "epsilon": ("eps", 1e-5),
        "use_bias": ("has_beta", True),
        "use_scale": ("has_gamma", True),
    },
    fixed={"ddof": 0, "frozen": False},
)
ONNX = Convention(
    "ONNX",
    vectors=("scale", "B", "input_mean", "input_var"),
    options={
        "epsilon": ("eps", 1e-5),
        "momentum": ("decay", 0.9),
        "training_mode": ("training", 0),
    },
    fixed={"ddof": 0},
)


def _describe(layer: LayerState) -> dict[str, object]:
    """Return what any of the frameworks has an option for."""
    return {
        "axis": layer.axis,
        "eps": layer.eps,
        "momentum": layer.momentum,
        "decay": layer.decay,
        "has_gamma": layer.gamma is not None,
        "has_beta": layer.beta is not None,
        "track_running_stats": layer.track_running_stats,
        "trainable": not layer.frozen,
        "training": int(layer.training and not layer.frozen),
    }


def _on_host(value: Array) -> np.ndarray:
    """Return an array of any library as NumPy's; PyTorch's may have a gradient, or be bfloat16."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double()
    return to_numpy(value)
