from typing_extensions import disjoint_base

__all__: list[str] = []

@disjoint_base
class Task:
    def __call__(self, start: int, stop: int) -> None: ...
