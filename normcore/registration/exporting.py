"""What is fitted in other forms: ``export``, which asks the registered exporters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from normcore.registration import exporter_registration
from normcore.registration.registry import Registration

__all__ = ["Exporter", "Exporting", "UnknownOption"]


class UnknownOption(TypeError):
    """A format has no such option, or lacks one that it needs; the message names its options."""


class Exporter(NamedTuple):
    """A registered format, whose functions are imported when they are needed."""

    registration: Registration

    @classmethod
    def named(cls, format: str) -> Exporter:
        """Return the exporter of a format.

        Raises
        ------
        ValueError
            If there is none of that name; the message lists those there are.
        """
        return cls(exporter_registration(format))

    def flags(self) -> set[str]:
        """Return the names of the options that are True or False: those annotated as bool.

        Raises
        ------
        PluginError
            If the exporter does not import.
        """
        return _flags(inspect.signature(self.registration.resolve()))

    def export(self, fitted: object, options: dict[str, Any]) -> Any:
        """Return something fitted in this format.

        Raises
        ------
        UnknownOption
            If the format has no such option, or lacks one that it needs.
        ValueError
            If an option that is True or False is given anything else.
        PluginError
            If the exporter does not import.
        """
        function: Callable[..., Any] = self.registration.resolve()
        signature = inspect.signature(function)
        try:
            signature.bind(fitted, **options)
        except TypeError as error:
            known = ", ".join(list(signature.parameters)[1:]) or "none"
            raise UnknownOption(
                f"export to {self.registration.name!r}: {error}; its options: {known}"
            ) from None
        for name in sorted(_flags(signature) & options.keys()):
            value = options[name]
            if not isinstance(value, bool | np.bool_):  # the text "no" would count as true
                raise ValueError(f"{name} must be True or False, got {value!r}")
        with self._named(f"exporter {self.registration.name!r}"):
            return function(fitted, **options)

    def to_bytes(self, exported: Any) -> bytes:
        """Return what a file of the format holds; text is UTF-8.

        Raises
        ------
        TypeError
            If the format has no files, or its writer gives no bytes.
        """
        if isinstance(exported, str):
            return exported.encode()
        if isinstance(exported, bytes):
            return exported
        if not self.registration.writer:
            raise TypeError(
                f"{self.registration.name!r} gives a {type(exported).__name__}, which is for "
                f"Python and no file: call export({self.registration.name!r}) there"
            )
        write: Callable[[Any], bytes] = self.registration.resolve_writer()
        writer = f"the writer of exporter {self.registration.name!r}"
        with self._named(writer):
            data = write(exported)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(
                f"{self.registration.plugin}: {writer} must return bytes, not {data!r:.60}"
            )
        return bytes(data)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Say whose an error is, unless it is one that says what the format cannot."""
        try:
            yield
        except (ValueError, TypeError, ImportError):
            raise
        except Exception as error:
            error.add_note(f"{self.registration.plugin}: {what} raised it")
            raise


def _flags(signature: inspect.Signature) -> set[str]:
    parameters = signature.parameters.items()
    return {name for name, each in parameters if each.annotation in (bool, "bool")}


class Exporting:
    """What can be had in other forms."""

    def export(self, format: str, **options: Any) -> Any:
        """Return the fitted map in another form, which needs no normcore.

        Parameters
        ----------
        format : str
            ``"c"``, ``"onnx"``, ``"polars"``, ``"sklearn"``, ``"sql"``, ``"torch"``, or one that a
            plugin registers.
        **options
            Those of the format.

        Returns
        -------
        object
            Text of ``"c"`` and ``"sql"``, and what the library of the others works with.

        Raises
        ------
        ValueError
            If there is no such format, or it cannot say this map.
        TypeError
            If the format has no such option, or does not take what this is.
        NotFittedError
            If it is not fitted.
        ImportError
            If the library of the format is missing.
        """
        return Exporter.named(format).export(self, options)
