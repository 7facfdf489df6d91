"""Discovery as in a new process, and plugins in memory."""

from __future__ import annotations

import types

import pluggy
import plugin_wheels as wheels

from normcore.array_backend import selection
from normcore.registration import discovery, hookspecs
from normcore.registration.registry import Catalog


def fresh_discovery(monkeypatch):
    """Discovery as in a new process, without plugins of other distributions."""
    monkeypatch.setattr(discovery, "_manager", None)
    monkeypatch.setattr(discovery, "_catalog", Catalog())
    monkeypatch.setattr(discovery, "_discovered", False)
    monkeypatch.setattr(discovery, "_load_entry_points", list)
    monkeypatch.setattr(selection, "_instances", {})


def more_discovery(monkeypatch):
    """Let a test register plugins beside those that there are."""
    monkeypatch.setattr(discovery, "_catalog", discovery.catalog())
    manager = pluggy.PluginManager(discovery._manager.project_name)
    manager.add_hookspecs(hookspecs)
    monkeypatch.setattr(discovery, "_manager", manager)


def make_plugin(*lines, name="hosted"):
    """Return a module with a hook of these lines."""
    module = types.ModuleType(name)
    exec(wheels.hook(*lines), module.__dict__)
    return module
