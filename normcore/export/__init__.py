"""Fitted maps in forms that need no normcore: one module a format, found through the registry.

What the formats share is in :mod:`~normcore.export.column_map`. A plugin adds a format with
``registry.exporter``.
"""
