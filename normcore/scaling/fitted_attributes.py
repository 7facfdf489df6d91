"""Fitted attributes as the state of a scaler: what is assigned is checked, kept, and in effect.

Those of NumPy are read-only, so nobody writes into them without effect. Arrays of other libraries
have no such flag: once one was handed out, what it holds is compared with what it held before.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.feature_axes import COLUMNS, Axis, FeatureAxes, is_columns
from normcore.scaling.real_numbers import as_numbers, on_host

__all__ = ["FittedAttributes", "is_public", "locked"]

# Set by a fit, and not what it has learned of the values.
_FEATURES = ("n_features_in_", "feature_names_in_")


def is_public(name: str) -> bool:
    """Whether a name is that of a fitted attribute."""
    return name.endswith("_") and not name.startswith("_")


def locked(value: Array) -> Array:
    """Return an array of numbers of NumPy in memory that is never written, all else as it is."""
    if not _are_numbers(value) or not (value.flags.writeable and value.size):
        return value
    return np.frombuffer(value.tobytes(), dtype=value.dtype).reshape(value.shape)


class _Coefficient:
    """Descriptor of what the map is made of, which lies in the instance's dictionary."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: FittedAttributes | None, owner: type) -> Any:
        if instance is None:
            return self
        try:
            value = instance.__dict__[self.name]
        except KeyError:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self.name!r}",
                name=self.name,
                obj=instance,
            ) from None
        if value is not None and not isinstance(value, np.ndarray):
            instance._watch(self.name, value)
        return value

    def __set__(self, instance: FittedAttributes, value: object) -> None:
        instance.__dict__[self.name] = value

    def __delete__(self, instance: FittedAttributes) -> None:
        self.__get__(instance, type(instance))
        instance._forget_map()
        instance._record(self.name)
        del instance.__dict__[self.name]


class FittedAttributes:
    """The part of a scaler that sees to fitted attributes which are assigned or written into."""

    #: Fitted attributes that are coefficients of the map: the name of the coefficient of each.
    #: A scaler of another kind has none; what its map reads, it reads of the attributes themselves.
    coefficients: ClassVar[Mapping[str, str]] = {}
    #: Other fitted arrays that the map reads: what is written into those is noticed, too.
    read_arrays: ClassVar[frozenset[str]] = frozenset()
    #: Fitted attributes that tell of what was learned and decide nothing: not to be assigned.
    descriptive: ClassVar[frozenset[str]] = frozenset()

    axis: Axis = COLUMNS
    #: Rows that the statistic was observed of; None where nobody knows.
    _num_rows: int | None = None
    #: Names of what was assigned since the latest fit, in this order.
    _assigned: tuple[str, ...] = ()
    #: Names of what the latest fit has set.
    _learned: frozenset[str] = frozenset()
    #: What arrays that cannot be read-only held, by name, since they were first handed out.
    _watched: Mapping[str, bytes] = {}

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        for name in (*cls.coefficients, *cls.read_arrays):
            if not hasattr(cls, name):
                setattr(cls, name, _Coefficient(name))

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_") or "_learning" in self.__dict__:
            object.__setattr__(self, name, value)
        elif is_public(name):
            self._assign(name, value)
        else:
            object.__setattr__(self, name, value)
            if self._assigned:  # parameters then take effect at once, as attributes do
                self._forget_map()

    def __setstate__(self, state: Mapping[str, object]) -> None:
        # Copies of arrays can be written into, whatever could be done with the originals.
        self.__dict__.update(
            (name, locked(value) if is_public(name) else value) for name, value in state.items()
        )

    def _assign(self, name: str, value: object) -> None:
        """Set a fitted attribute so that it takes effect."""
        known = self.__dict__
        if name == "n_features_in_":
            self._set_width(value)
            return
        if name == "feature_names_in_":
            object.__setattr__(self, name, np.asarray(value, dtype=object))
            return
        if name in self.coefficients:
            if value is not None:
                numbers = self._checked_numbers(name, value)
                self._take_shape(numbers.shape)
                value = value if _is_foreign(value) else numbers
        elif name in self._learned and name in self.descriptive:
            settable = " or ".join(self.coefficients)
            raise AttributeError(
                f"{type(self).__name__}.{name} tells of what was learned, and no map is made of "
                f"it: assign {settable}, or call fit"
            )
        elif name in self._learned and _are_numbers(known.get(name)) and value is not None:
            value = locked(as_numbers(value, f"{type(self).__name__}.{name}"))
        elif name not in self._learned:
            object.__setattr__(self, name, value)
            return
        self._forget_map()
        self._record(name)
        watched = {key: held for key, held in self._watched.items() if key != name}
        known["_watched"] = watched
        object.__setattr__(self, name, value)
        is_read = name in self.coefficients or name in self.read_arrays
        if is_read and value is not None and not isinstance(value, np.ndarray):
            self._watch(name, value)

    def numbers_now(self, name: str, learned: np.ndarray) -> np.ndarray:
        """Return a fitted attribute as it is now, in NumPy: for maps that read it themselves.

        Parameters
        ----------
        name : str
        learned : float64 array
            What was learned. It is returned where the attribute is that, of a device whose numbers
            have fewer digits too.
        """
        value = getattr(self, name)
        numbers = as_numbers(value, f"{type(self).__name__}.{name}")
        if _is_foreign(value) and numbers.size == learned.size:
            held = learned.reshape(numbers.shape)
            with np.errstate(over="ignore"):
                rounded = held.astype(on_host(value).dtype)
            if np.array_equal(rounded, numbers, equal_nan=True):
                return held
        return numbers

    def _set_width(self, value: Any) -> None:
        known = self.__dict__
        try:
            width = operator.index(value)
        except TypeError:
            raise TypeError(f"n_features_in_ must be an integer, got {value!r}") from None
        if isinstance(value, bool | np.bool_) or width < 1:
            raise ValueError(f"n_features_in_ must be a positive integer, got {value!r}")
        if known.get("n_features_in_", width) != width:
            self._forget_map()
            self._record("n_features_in_")
            known.pop("_observed_affine", None)
        known["n_features_in_"] = width

    def _record(self, name: str) -> None:
        self.__dict__["_assigned"] = (*(each for each in self._assigned if each != name), name)

    def _forget_map(self) -> None:
        """Drop what was made of the attributes, for it to be made anew."""
        known = self.__dict__
        known.pop("_narrow", None)
        made = [known.pop(name, None) for name in ("_affine", "_kept_affine")]
        if not self._assigned and any(made):
            known["_observed_affine"] = made[0] or made[1], known["_params"]

    def _shape_of_coefficients(self) -> tuple[int, ...] | None:
        """Return the shape that coefficients must have, None where it is not known yet."""
        features = self.__dict__.get("_features")
        width = self.__dict__.get("n_features_in_")
        if features is not None:
            return features.shape
        return None if width is None or not is_columns(self.axis) else (width,)

    def _take_shape(self, shape: tuple[int, ...]) -> None:
        """Learn of the first coefficient how many features there are, and where."""
        known = self.__dict__
        if self._shape_of_coefficients() is None:
            features = FeatureAxes.of_shape(self.axis, shape)
            if features is not None:
                known["_features"], known["_shaped"] = features, frozenset(self.coefficients)
        known.setdefault("n_features_in_", math.prod(shape))

    def _checked_numbers(self, name: str, value: Array) -> np.ndarray:
        """Return what is to be a coefficient of each feature, read-only; errors name it.

        NaN is taken, as a feature without values has it.
        """
        numbers = as_numbers(value, f"{type(self).__name__}.{name}")
        shape = self._shape_of_coefficients()
        if numbers.ndim == 0 and shape is not None and not _is_foreign(value):
            numbers = np.full(shape, numbers)
        table = is_columns(self.axis)
        fits = (numbers.ndim == 1 or not table) if shape is None else numbers.shape == shape
        if not (numbers.size and fits):
            expected = "(n_features,)" if shape is None else str(shape)
            raise ValueError(
                f"{type(self).__name__}.{name} must have shape {expected}, a number of each "
                f"feature; got shape {numbers.shape}"
            )
        infinite = np.flatnonzero(np.isinf(numbers))
        if infinite.size:
            features, names = (self.__dict__.get(each) for each in ("_features", _FEATURES[1]))
            place = int(infinite[0])
            label = input_validation.column_label(place, names)
            if features is not None:
                label = features.label(place)
            raise ValueError(
                f"{type(self).__name__}.{name} must be finite, but is "
                f"{numbers.flat[infinite[0]]} for {label}"
            )
        if self.coefficients.get(name) == "scale":
            numbers = np.where(numbers == 0, 1.0, numbers)  # as of a constant feature
        checked: np.ndarray = locked(numbers)
        return checked

    # -- arrays that can be written into ---------------------------------------------------

    def _watch(self, name: str, value: Array) -> None:
        """Compare an array from now on with what it holds."""
        if name in self._watched:
            return
        known = self.__dict__
        known["_watched"] = {**self._watched, name: on_host(value).tobytes()}
        if "_affine" in known:
            known["_kept_affine"] = known["_affine"]
            known.pop("_affine", None)

    def _notice(self) -> None:
        """Take for assigned what was written into since the last look."""
        for name, held in self._watched.items():
            value = self.__dict__[name]
            holds = on_host(value).tobytes()
            if holds != held:
                if name in self.coefficients:
                    self._checked_numbers(name, value)
                self._forget_map()
                self._record(name)
                self.__dict__["_watched"] = {**self._watched, name: holds}

    def _settle(self) -> None:
        """Make of the attributes what the map needs, for a copy of this scaler to have it."""
        self._notice()

    # -- what was observed -----------------------------------------------------------------

    def _refuse_unobserved(self, method: str) -> None:
        """Refuse to go on from a state of which nobody knows what was observed.

        Raises
        ------
        ValueError
            Naming the attributes that were assigned, or saying that there is no count.
        """
        self._notice()
        owner = type(self).__name__
        if self._num_rows is None and "n_features_in_" in self.__dict__:
            given = f" ({', '.join(self._assigned)})" if self._assigned else ""
            raise ValueError(
                f"{method}: the state of this {owner}{given} was given without a count of the "
                "values that were observed, so nothing can be added to it. Call fit to learn anew, "
                "or make the scaler by from_statistics with count="
            )
        if self._assigned:
            names, were = ", ".join(self._assigned), "were" if len(self._assigned) > 1 else "was"
            raise ValueError(
                f"{method}: {names} {were} assigned, so what was observed is not known and nothing "
                f"can be added to it; call fit to let this {owner} learn anew"
            )

    def _assigned_values(self) -> dict[str, object]:
        """Return what was assigned since the latest fit, arrays as NumPy's."""
        self._notice()
        values = {
            name: self.__dict__[name]
            for name in self._assigned
            if name in self.__dict__ and name not in _FEATURES
        }
        return {
            name: on_host(value) if _is_foreign(value) else value for name, value in values.items()
        }


def _are_numbers(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _is_foreign(value: object) -> bool:
    """Whether it is an array of another library than NumPy that scalers take as data too."""
    return not isinstance(value, np.ndarray) and (
        hasattr(value, "__array_namespace__")
        or (hasattr(value, "__dlpack__") and hasattr(value, "device"))
    )
