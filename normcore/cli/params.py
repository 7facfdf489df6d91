"""Turns words on the command line into a scaler, a backend and names of columns."""

from __future__ import annotations

import ast
import csv
import difflib
import inspect
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from normcore import registration
from normcore.array_backend import selection
from normcore.registration.registry import PluginError

if TYPE_CHECKING:
    from normcore.engines.engine import Engine
    from normcore.scaling.scaler import Scaler

__all__ = [
    "check_backend",
    "check_registered",
    "make_engine",
    "make_scaler",
    "parse_columns",
    "parse_params",
    "suggestion",
]


def make_scaler(
    name: str,
    params: Iterable[str],
    quantiles: str | None = None,
    error: float | None = None,
) -> Scaler:
    """Return a new scaler.

    Parameters
    ----------
    name : str
        As registered.
    params : iterable of str
        ``key=value``; the value is a Python literal, or else a string.
    quantiles : str, optional
        How it finds quantiles.
    error : float, optional
        Rank error of a sketch of these.

    Raises
    ------
    click.UsageError
        If there is no such scaler or parameter, or its value makes no sense.
    """
    check_registered("scaler", name)
    cls = registration.scaler(name)
    accepted = dict(inspect.signature(cls).parameters)
    accepted.pop("copy", None)
    accepted.pop("backend", None)
    if quantiles is not None or error is not None:
        if "quantiles" not in accepted:
            raise click.UsageError(
                f"the scaler {name!r} learns no quantiles: leave --quantiles out"
            )
        if error is not None and quantiles != "sketch":
            raise click.UsageError("--error is that of a sketch: add --quantiles sketch")
        given = {"quantiles": quantiles, "quantile_error": error}
        words = (f"{key}={value}" for key, value in given.items() if value is not None)
        params = (*params, *words)
    values: dict[str, object] = {}
    for key, text in _pairs(params):
        if key == "backend":
            raise click.UsageError("the backend is chosen with --backend NAME")
        if key not in accepted:
            raise click.UsageError(
                f"the scaler {name!r} has no parameter {key!r}; {suggestion(key, accepted)}"
            )
        values[key] = _parse_value(key, text, accepted[key].default)
    scaler: Scaler = cls(**values)
    try:
        scaler._check_parameters()  # now, not after the file was opened
    except (ValueError, TypeError, ArithmeticError) as error:
        raise click.UsageError(str(error)) from error
    return scaler


def parse_params(params: Iterable[str], flags: Container[str]) -> dict[str, object]:
    """Return what ``key=value`` say; the values are Python literals, or else strings.

    Those whose key is among ``flags`` are True or False.

    Raises
    ------
    click.UsageError
        If one is not of this form, or a key stands twice.
    """
    return {
        key: _parse_value(key, text, False if key in flags else None)
        for key, text in _pairs(params)
    }


def _pairs(params: Iterable[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for param in params:
        key, equals, text = param.partition("=")
        key = key.strip()
        if not equals:
            raise click.UsageError(f"--param {param!r} is not of the form key=value")
        if key in seen:
            raise click.UsageError(f"--param {key} is given twice")
        seen.add(key)
        yield key, text


def _parse_value(key: str, text: str, default: object) -> object:
    if isinstance(default, bool):  # any other word would count as true
        try:
            return click.BOOL.convert(text, None, None)
        except click.BadParameter as error:
            message = f"--param {key} must be true or false, not {text!r}"
            raise click.UsageError(message) from error
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        words = {"true": True, "false": False, "none": None}
        return words.get(text.strip().lower(), text)


def make_engine(name: str, scheduler: str | None) -> Engine[Any]:
    """Return an engine, which is not connected yet.

    Raises
    ------
    click.UsageError
        If there is no such engine.
    ImportError
        If its library is missing.
    """
    check_registered("engine", name)
    try:
        cls = registration.engine(name)
    except PluginError as error:
        if isinstance(error.__cause__, ImportError):
            raise ImportError(
                f"the engine {name!r} cannot be used here: {error.__cause__}"
            ) from error
        raise
    return cls(scheduler)


def check_registered(kind: str, name: str) -> None:
    """Refuse a name that nothing of a kind is registered under.

    Raises
    ------
    click.UsageError
        With the names that may have been meant.
    """
    known = [row.name for row in registration.registrations() if row.kind == kind]
    if name not in known:
        raise click.UsageError(f"there is no {kind} {name!r}; {suggestion(name, known)}")


def check_backend(name: str) -> None:
    """Refuse a backend that is unknown or not ready.

    Raises
    ------
    click.UsageError
        Saying why.
    """
    statuses = selection.backends()
    if name not in statuses:
        raise click.UsageError(f"there is no backend {name!r}; {suggestion(name, statuses)}")
    status = statuses[name]
    if not status.ready:
        raise click.UsageError(f"the backend {name!r} cannot be used here: {status.reason}")


def parse_columns(text: str | None, option: str = "--columns") -> list[str] | None:
    """Return the names in a comma-separated list; quotes keep a comma or spaces in a name.

    Raises
    ------
    click.UsageError
        If a name is empty or stands twice, or the list is malformed.
    """
    if text is None:
        return None
    try:
        names = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise click.UsageError(f"{option}: a name with a line break stands in quotes") from error
    if '"' not in text:
        names = [name.strip() for name in names]
    if not names or not all(names):
        raise click.UsageError(f"{option} takes names separated by commas; one of them is empty")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise click.UsageError(f"{option} names {min(twice)!r} twice")
    return names


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return which of the known names may have been meant, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, 3)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(known) or 'none'}"
