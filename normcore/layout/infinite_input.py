"""The error of infinite input, which those who know the data turn into one that names its place."""

__all__ = ["InfiniteInput"]


class InfiniteInput(ValueError):
    """An input element was infinite where infinity is refused.

    Raise it in what a plugin does with values: where a scaler called that, it looks for the value
    and names its column and row.

    Examples
    --------
    >>> import normcore as nc
    >>> class ExpScaler(nc.PointwiseScaler):
    ...     def forward(self, xp, x):
    ...         if bool(xp.any(x > 700)):
    ...             raise nc.InfiniteInput
    ...         return xp.exp(x)
    ...
    ...     def inverse(self, xp, x):
    ...         return xp.log(x)
    >>> issubclass(nc.InfiniteInput, ValueError)
    True
    """

    __module__ = "normcore"
