"""Batch norm: the layer, its modes and statistics, and what other frameworks call them."""

from normcore.batchnorm.layer import BatchNorm

__all__ = ["BatchNorm"]
