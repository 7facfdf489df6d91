"""threadpoolctl, told of normcore's threads: ``threadpool_limits(1)`` holds for normcore too.

normcore does not import threadpoolctl. It registers with one that is loaded, or as soon as one is.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing normcore loads neither typing nor __future__
    from typing import Any

__all__ = ["register_with_threadpoolctl"]

_NAME = "threadpoolctl"


def register_with_threadpoolctl() -> None:
    """Register now if threadpoolctl is loaded, else when it is imported."""
    module = sys.modules.get(_NAME)
    if module is not None:
        _register(module)
    else:
        sys.meta_path.insert(0, _Finder())


def _register(threadpoolctl: "Any") -> None:
    if not hasattr(threadpoolctl, "register"):  # before 3.2, or another module of that name
        return
    # threadpoolctl asks only for libraries that it finds loaded: this loads ours.
    from normcore import __version__, threads

    class NormcoreController(threadpoolctl.LibController):  # type: ignore[misc]
        """The number of normcore's threads, for the running thread or asynchronous task."""

        user_api = "normcore"
        internal_api = "normcore"
        filename_prefixes = ("worksharing.",)
        check_symbols = ("PyInit_worksharing",)

        def get_num_threads(self) -> int:
            return threads.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            threads.limit_here(num_threads)

        def get_version(self) -> str:
            return __version__

    threadpoolctl.register(NormcoreController)


class _Finder:
    """Finds threadpoolctl as the other finders do, with a loader that tells normcore."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != _NAME:
            return None
        for finder in sys.meta_path:
            spec: Any = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None


class _Loader:
    """Loads as another loader does, then registers and leaves the scene."""

    def __init__(self, loader: "Any", finder: "_Finder") -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def create_module(self, spec: "Any") -> "Any":
        return self._loader.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
            _register(module)
