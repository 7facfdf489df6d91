from typing import Any

from normcore.layout.namespace import Array

__all__ = ["are_host_memory", "are_of_one_dtype", "is_batch"]

def are_host_memory(
    arguments: tuple[object, ...], kinds: frozenset[type[Any]], others: frozenset[type[Any]]
) -> bool: ...
def are_of_one_dtype(array: Array, vector: Array) -> bool: ...
def is_batch(array: Array, *vectors: Array) -> bool: ...
