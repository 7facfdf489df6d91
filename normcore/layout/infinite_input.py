"""The error of infinite input, which those who know the data turn into one that names its place."""

__all__ = ["InfiniteInput"]


class InfiniteInput(ValueError):
    """An input element was infinite where infinity is refused.

    Raise it in what a plugin does with values: where a scaler called that, it looks for the value
    and names its column and row.
    """

    __module__ = "normcore"
