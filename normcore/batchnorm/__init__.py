"""Batch norm: the layer, its modes and statistics, and what other frameworks call them."""
