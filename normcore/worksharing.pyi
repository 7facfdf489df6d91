from collections.abc import Callable
from concurrent.futures import Executor

class Work:
    def __call__(self, start: int, stop: int) -> None: ...

def share(
    function: Callable[[int, int], None],
    num_items: int,
    min_items: int,
    num_threads: int,
    executor: Executor | None,
) -> None: ...
