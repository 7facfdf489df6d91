"""Batch and instance norms that take their number of features from the first batch.

They derive from normcore's layers too, so that the first batch goes through normcore: PyTorch
looks up what to call before it changes the class.
"""

from __future__ import annotations

from torch import Tensor, nn

from normcore.array_backend.precision import check_precision
from normcore.torch.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
from normcore.torch.checks import check_input
from normcore.torch.rows import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazySyncBatchNorm",
]


class _WithPrecision:
    """What takes an argument of normcore's layers that PyTorch's lazy ones do not hand on."""

    def __init__(self, *arguments: object, precision: str | None = None, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.precision = check_precision(precision)

    def initialize_parameters(self, input: Tensor) -> None:
        """Take the number of features from a batch that the layer takes.

        Parameters
        ----------
        input : Tensor
            The batch.
        """
        of_samples = isinstance(self, nn.modules.instancenorm._InstanceNorm)
        check_input(input, None, "instance_norm" if of_samples else "batch_norm")
        super().initialize_parameters(input)  # type: ignore[misc]


class LazyBatchNorm1d(_WithPrecision, nn.LazyBatchNorm1d, BatchNorm1d):
    """:class:`torch.nn.LazyBatchNorm1d`, which becomes normcore's :class:`BatchNorm1d`.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.LazyBatchNorm1d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> layer = nt.LazyBatchNorm1d()
    >>> layer(torch.ones(8, 4)).shape, layer.num_features  # found out
    (torch.Size([8, 4]), 4)
    """

    __module__ = "normcore.torch"
    counterpart = nn.LazyBatchNorm1d
    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_WithPrecision, nn.LazyBatchNorm2d, BatchNorm2d):
    """:class:`torch.nn.LazyBatchNorm2d`, which becomes normcore's :class:`BatchNorm2d`.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.LazyBatchNorm2d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> layer = nt.LazyBatchNorm2d()
    >>> layer(torch.ones(8, 4, 5, 5)).shape, layer.num_features  # found out
    (torch.Size([8, 4, 5, 5]), 4)
    """

    __module__ = "normcore.torch"
    counterpart = nn.LazyBatchNorm2d
    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_WithPrecision, nn.LazyBatchNorm3d, BatchNorm3d):
    """:class:`torch.nn.LazyBatchNorm3d`, which becomes normcore's :class:`BatchNorm3d`.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.LazyBatchNorm3d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> layer = nt.LazyBatchNorm3d()
    >>> layer(torch.ones(8, 4, 3, 3, 3)).shape, layer.num_features  # found out
    (torch.Size([8, 4, 3, 3, 3]), 4)
    """

    __module__ = "normcore.torch"
    counterpart = nn.LazyBatchNorm3d
    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_WithPrecision, nn.LazyInstanceNorm1d, InstanceNorm1d):
    """:class:`torch.nn.LazyInstanceNorm1d`, which becomes normcore's :class:`InstanceNorm1d`.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.LazyInstanceNorm1d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> layer = nt.LazyInstanceNorm1d()
    >>> layer(torch.ones(8, 4, 5)).shape, layer.num_features  # found out
    (torch.Size([8, 4, 5]), 4)
    """

    __module__ = "normcore.torch"
    counterpart = nn.LazyInstanceNorm1d
    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_WithPrecision, nn.LazyInstanceNorm2d, InstanceNorm2d):
    """:class:`torch.nn.LazyInstanceNorm2d`, which becomes normcore's :class:`InstanceNorm2d`.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.LazyInstanceNorm2d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> layer = nt.LazyInstanceNorm2d()
    >>> layer(torch.ones(8, 4, 5, 5)).shape, layer.num_features  # found out
    (torch.Size([8, 4, 5, 5]), 4)
    """

    __module__ = "normcore.torch"
    counterpart = nn.LazyInstanceNorm2d
    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_WithPrecision, nn.LazyInstanceNorm3d, InstanceNorm3d):
    """:class:`torch.nn.LazyInstanceNorm3d`, which becomes normcore's :class:`InstanceNorm3d`.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.LazyInstanceNorm3d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> layer = nt.LazyInstanceNorm3d()
    >>> layer(torch.ones(8, 4, 3, 3, 3)).shape, layer.num_features  # found out
    (torch.Size([8, 4, 3, 3, 3]), 4)
    """

    __module__ = "normcore.torch"
    counterpart = nn.LazyInstanceNorm3d
    cls_to_become = InstanceNorm3d


class LazySyncBatchNorm(nn.modules.batchnorm._LazyNormBase, SyncBatchNorm):
    """What becomes of a lazy batch norm that is to be synchronized: a :class:`SyncBatchNorm`.

    Arguments are those of :class:`torch.nn.LazyBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> layer = nt.LazySyncBatchNorm()
    >>> layer(torch.ones(8, 4)).shape, layer.num_features  # found out
    (torch.Size([8, 4]), 4)
    """

    __module__ = "normcore.torch"
    cls_to_become = SyncBatchNorm
