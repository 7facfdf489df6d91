"""What authors of statistics and scalers declare and return, checked where it is first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from normcore.layout.infinite_input import InfiniteInput
from normcore.layout.namespace import Array, to_numpy
from normcore.registration import origin

if TYPE_CHECKING:
    from normcore.statistics.statistic import Statistic

__all__ = [
    "Blame",
    "broken",
    "called",
    "check_fields",
    "check_merges",
    "check_neutral",
    "described",
    "lock",
    "numbers_of",
    "owner_of",
]

StatisticT = TypeVar("StatisticT", bound="Statistic")

#: What makes a message of a reason, to which it adds whose the fault is.
Blame: TypeAlias = Callable[[str], str]


def called(blame: Blame, function: Callable[..., Array], *args: object, **options: object) -> Array:
    """Call what an author wrote; say whose it is where it fails, or writes to what it was given."""
    try:
        return function(*args, **options)
    except InfiniteInput as error:  # the caller looks for the value
        if not error.args:
            error.args = (blame("takes no value as large as one in X"),)
        raise
    except ValueError as error:  # that of a parameter or of the data, in words
        if "read-only" not in str(error):
            raise
        raise ValueError(blame(f"must not write to what it is given: {error}")) from error
    except Exception as error:
        error.add_note(blame("raised it"))
        raise


def broken(cls: type, method: str, reason: str) -> str:
    """Return the message of a broken contract, which names the class that has the method."""
    owner = owner_of(cls, method)
    return f"{owner.__name__}.{method} {reason} ({origin(owner)})"


def owner_of(cls: type, method: str) -> type:
    """Return the class that a class has a method from."""
    return next(each for each in cls.__mro__ if method in vars(each))


def check_neutral(cls: type[Statistic], taken: Callable[[str], bool]) -> None:
    """Refuse a statistic that does not say what it keeps, or gives it a name that is taken.

    Raises
    ------
    TypeError
        Naming the class, and the field.
    """
    neutral: object = cls.neutral
    if not isinstance(neutral, Mapping) or not neutral:
        reason = f"must be a dict of the fields and what each holds of no data, not {neutral!r:.60}"
        raise TypeError(broken(cls, "neutral", reason))
    for name, value in neutral.items():
        if not (isinstance(name, str) and name.isidentifier()) or taken(name):
            reason = f"cannot name a field {name!r}: it is no name, or one that statistics use"
            raise TypeError(broken(cls, "neutral", reason))
        if numbers_of(value) is None:
            raise TypeError(broken(cls, "neutral", f"must hold real numbers: {name!r} does not"))


def check_fields(statistic: object, cls: type[Statistic], method: str, num_channels: int) -> None:
    """Refuse what a method returned if it is no statistic of so many channels, in real numbers.

    Raises
    ------
    TypeError, ValueError
        Naming the class, the method, the field and the plugin.
    """
    must = f"must return {cls.__name__}"
    if not isinstance(statistic, owner_of(cls, method)):
        raise TypeError(broken(cls, method, f"{must}, not {described(statistic)}"))
    for name, neutral in cls.neutral.items():
        value = getattr(statistic, name)
        numbers = numbers_of(value)
        if numbers is None:
            reason = f"{must} of arrays of real numbers, but its {name} is {described(value)}"
            raise TypeError(broken(cls, method, reason))
        shape = (*np.shape(neutral), num_channels)
        if numbers.shape != shape:
            reason = f"{must} of {num_channels} features, but its {name} has shape {numbers.shape}"
            raise ValueError(broken(cls, method, f"{reason}, not {shape}"))


def check_merges(
    cls: type[Statistic], merge: Callable[[StatisticT, StatisticT], StatisticT]
) -> Callable[[StatisticT, StatisticT], StatisticT]:
    """Return the ``merge`` of a class, of which every result is checked."""

    @wraps(merge)
    def checked(self: StatisticT, other: StatisticT) -> StatisticT:
        lock(self)
        lock(other)
        merged: StatisticT = called(partial(broken, cls, "merge"), merge, self, other)
        check_fields(merged, cls, "merge", self.num_channels)
        return merged

    return checked


def lock(statistic: object) -> None:
    """Have the arrays of a statistic be read only, before its author's code is given it."""
    slots = (name for cls in type(statistic).__mro__ for name in vars(cls).get("__slots__", ()))
    for name in (*slots, *getattr(statistic, "__dict__", ())):
        array = getattr(statistic, name, None)
        if isinstance(array, np.ndarray):
            array.flags.writeable = False


def numbers_of(value: Array) -> np.ndarray | None:
    """Return an array of any library, or a number, in NumPy; None if these are no real numbers."""
    numbers = np.asarray(to_numpy(value) if hasattr(value, "dtype") else value)
    is_real = numbers.dtype.kind in "fiub" and not isinstance(value, np.ma.MaskedArray)
    return numbers if is_real else None


def described(value: Array) -> str:
    """Return what a value is, in a few words."""
    if value is None:
        return "None"
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        return f"a value of type {type(value).__name__}"
    return f"{type(value).__name__} of shape {tuple(shape)} and dtype {dtype}"
