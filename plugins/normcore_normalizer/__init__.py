"""A normcore plugin: rows, or columns, divided by their norms."""

from normcore_normalizer.normalize_function import normalize
from normcore_normalizer.normalizer import Normalizer

__all__ = ["Normalizer", "normalize"]
