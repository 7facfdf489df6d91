from collections.abc import Callable
from concurrent.futures import Executor

from typing_extensions import disjoint_base

__all__ = ["Work", "parallel_for", "set_affinity"]

@disjoint_base
class Work:
    def __call__(self, start: int, stop: int) -> None: ...

def parallel_for(
    function: Callable[[int, int], None],
    num_items: int,
    min_items: int,
    num_threads: int,
    executor: Executor | None,
    wake: bool = True,
) -> None: ...
def set_affinity(enabled: bool) -> None: ...
