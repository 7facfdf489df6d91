"""Layer, group, instance and RMS norm as PyTorch's modules, computed by normcore."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from normcore.layout.scalar_argument import as_float
from normcore.torch import functional
from normcore.torch.checks import check_input
from normcore.torch.layer import Layer

__all__ = [
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class LayerNorm(Layer, nn.LayerNorm):
    """:class:`torch.nn.LayerNorm`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.LayerNorm`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.LayerNorm(4)(torch.ones(8, 4)).shape
    torch.Size([8, 4])
    """

    __module__ = "normcore.torch"
    counterpart = nn.LayerNorm

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample over its last axes.

        Parameters
        ----------
        input : Tensor
            Its last axes are those of the layer.
        """
        if isinstance(input, fx.Proxy) and (recorded := self._record(input)) is not None:
            return recorded
        shape = self.normalized_shape
        return functional.layer_norm(
            input, shape, self.weight, self.bias, self.eps, precision=self.precision
        )


class RMSNorm(Layer, nn.RMSNorm):
    """:class:`torch.nn.RMSNorm`, computed by normcore, with what language models need.

    Parameters
    ----------
    normalized_shape, eps, elementwise_affine, device, dtype
        Those of :class:`torch.nn.RMSNorm`; so is the state.
    weight_offset : float
        Added to the weight, in float64: 1 for models that keep weight - 1, as Gemma. The two make
        1 at first.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.RMSNorm(4)(torch.ones(8, 4)).shape
    torch.Size([8, 4])
    """

    __module__ = "normcore.torch"
    counterpart = nn.RMSNorm
    weight_offset = 0.0  # of layers that were PyTorch's

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        weight_offset: float = 0.0,
        precision: str | None = None,
    ) -> None:
        self.weight_offset = as_float("weight_offset", weight_offset)
        super().__init__(
            normalized_shape, eps, elementwise_affine, device, dtype, precision=precision
        )

    def reset_parameters(self) -> None:
        """Make the layer one that only normalizes."""
        if self.elementwise_affine:
            nn.init.constant_(self.weight, 1.0 - self.weight_offset)

    def extra_repr(self) -> str:
        """Return PyTorch's words, and the offset if there is one."""
        offset = f", weight_offset={self.weight_offset}" if self.weight_offset else ""
        return super().extra_repr() + offset

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Divide each sample by its root mean square over its last axes.

        Parameters
        ----------
        x : Tensor
            Its last axes are those of the layer.
        residual : Tensor, optional
            Added first: the result and the sum are returned then, as
            :func:`normcore.torch.functional.rms_norm` does.
        """
        given = (x,) if residual is None else (x, residual)
        if any(isinstance(each, fx.Proxy) for each in given):
            recorded = self._record(*given)
            if recorded is not None:
                return recorded
        return functional.rms_norm(
            x, self.normalized_shape, self.weight, self.eps,
            weight_offset=self.weight_offset, residual=residual, precision=self.precision,
        )  # fmt: skip


class GroupNorm(Layer, nn.GroupNorm):
    """:class:`torch.nn.GroupNorm`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.GroupNorm`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.GroupNorm(2, 4)(torch.ones(8, 4)).shape
    torch.Size([8, 4])
    """

    __module__ = "normcore.torch"
    counterpart = nn.GroupNorm

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each group of channels of each sample.

        Parameters
        ----------
        input : Tensor of shape ``(N, C, *)``
        """
        if isinstance(input, fx.Proxy) and (recorded := self._record(input)) is not None:
            return recorded
        return functional.group_norm(
            input, self.num_groups, self.weight, self.bias, self.eps, precision=self.precision
        )


class _InstanceNorm(Layer, nn.modules.instancenorm._InstanceNorm):
    """What instance norms of all dimensions share."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel of each sample.

        Parameters
        ----------
        input : Tensor of shape ``(N, C, *)`` or ``(C, *)``
        """
        if isinstance(input, fx.Proxy):
            if (recorded := self._record(input)) is not None:
                return recorded
        elif not isinstance(input, Tensor) or input.is_nested:
            check_input(input, None, "instance_norm")  # before PyTorch asks for sizes
        return super().forward(input)

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        return functional.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum if self.momentum is not None else 0.0,
            self.eps,
            precision=self.precision,
        )


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    """:class:`torch.nn.InstanceNorm1d`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.InstanceNorm1d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.InstanceNorm1d(4)(torch.ones(8, 4, 5)).shape
    torch.Size([8, 4, 5])
    """

    __module__ = "normcore.torch"
    counterpart = nn.InstanceNorm1d


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """:class:`torch.nn.InstanceNorm2d`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.InstanceNorm2d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.InstanceNorm2d(4)(torch.ones(8, 4, 5, 5)).shape
    torch.Size([8, 4, 5, 5])
    """

    __module__ = "normcore.torch"
    counterpart = nn.InstanceNorm2d


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """:class:`torch.nn.InstanceNorm3d`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.InstanceNorm3d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.InstanceNorm3d(4)(torch.ones(8, 4, 3, 3, 3)).shape
    torch.Size([8, 4, 3, 3, 3])
    """

    __module__ = "normcore.torch"
    counterpart = nn.InstanceNorm3d
