"""What words of the command line stand for: a character, a size, an encoding, a format.

These are callbacks of options: each returns the value, or raises an error that names the option.
"""

from __future__ import annotations

from collections.abc import Callable

import click

from normcore import registration
from normcore.cli.params import suggestion

__all__ = ["character", "encoding", "file_format", "size", "word_list"]

# What a shell makes hard to type.
_CHARACTERS = {"\\t": "\t", "tab": "\t", "space": " "}
_UNITS = {
    prefix + unit: base**power
    for power, prefix in enumerate(["", "k", "m", "g", "t"])
    for unit, base in (("", 1024), ("b", 1000), ("ib", 1024))
}


def character(*words: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a callback that takes one character, or one of the words."""

    def one(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
        if value is None or value in words:
            return value
        text = _CHARACTERS.get(value, value)
        if len(text) != 1:
            others = "".join(f" or {word!r}" for word in words)
            raise click.BadParameter(f"expected one character{others}, not {value!r}")
        return text

    return one


def size(context: click.Context, option: click.Parameter, value: str) -> int:
    """Return a number of bytes, given with a unit or without."""
    text = value.strip().lower().replace("_", "")
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        number = float(digits) * _UNITS[text[len(digits) :].strip()]
    except (ValueError, LookupError):
        number = 0.0
    if not 1 <= number < 1 << 63:
        raise click.BadParameter(f"expected a number of bytes, as 512MB or 2GiB, not {value!r}")
    return int(number)


def word_list(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Return words separated by commas; an empty one is the empty cell."""
    return None if value is None else tuple(value.split(","))


def encoding(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return the name of an encoding of text."""
    try:
        if value is not None:
            "".encode(value)
    except LookupError as error:
        raise click.BadParameter(
            f"there is no encoding {value!r}; utf-8, utf-16, cp1252, latin-1 and others are known"
        ) from error
    return value


def file_format(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return the suffix of a format."""
    if value is None:
        return None
    known = [row.name for row in registration.registrations() if row.kind == "source"]
    suffix = f".{value.strip().lower().removeprefix('.')}"
    if suffix not in known:
        names = [name.removeprefix(".") for name in known]
        raise click.BadParameter(f"there is no format {value!r}; {suggestion(value, names)}")
    return suffix
