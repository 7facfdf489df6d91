from typing_extensions import disjoint_base

__all__ = ["Task"]

@disjoint_base
class Task:
    def __call__(self, start: int, stop: int) -> None: ...
