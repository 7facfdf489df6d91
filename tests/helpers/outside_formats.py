"""Formats of someone else, registered by a hook: text, numbers with a writer, an object."""

import sys

from discovery import fresh_discovery, make_plugin

import normcore as nc

__all__ = ["register_formats"]

MODULE = """
def to_words(scaler, *, greeting="hello"):
    return f"{greeting} {scaler.mean_[0]:.1f}"

def to_numbers(scaler):
    return scaler.mean_

def to_object(scaler):
    return object()

def dump(numbers):
    return numbers.tobytes()

def fail(fitted):
    raise RuntimeError("boom")

def to_flagged(scaler, *, up: bool = False):
    return "UP" if up else "down"
"""


def register_formats(monkeypatch):
    """Register formats beside those of the core alone; boom and unwritten fail."""
    fresh_discovery(monkeypatch)
    module = make_plugin("pass", name="normcore_words")
    exec(MODULE, module.__dict__)
    monkeypatch.setitem(sys.modules, "normcore_words", module)
    nc.register(
        make_plugin(
            "registry.exporter('words', 'normcore_words:to_words')",
            "registry.exporter('numbers', 'normcore_words:to_numbers', "
            "writer='normcore_words:dump')",
            "registry.exporter('object', 'normcore_words:to_object')",
            "registry.exporter('flagged', 'normcore_words:to_flagged')",
            "registry.exporter('boom', 'normcore_words:fail')",
            "registry.exporter('boom_file', 'normcore_words:to_object', "
            "writer='normcore_words:fail')",
            "registry.exporter('unwritten', 'normcore_words:to_object', writer='builtins:repr')",
        )
    )
