"""What threadpoolctl is told of normcore's threads."""

import threading

from normcore.package.public_names import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["register_controller"]

_lock = threading.Lock()
_registered: "ModuleType | None" = None


def register_controller(
    threadpoolctl: "ModuleType",
    get_num_threads: "Callable[[], int]",
    set_num_threads: "Callable[[int], None]",
) -> bool:
    """Let threadpoolctl ask for and set a number of threads, once; return whether it can.

    It cannot before version 3.2, and not while it is being imported.
    """
    global _registered
    if threadpoolctl is _registered:
        return True
    if not hasattr(threadpoolctl, "register"):
        return False
    if getattr(getattr(threadpoolctl, "__spec__", None), "_initializing", False):
        return False
    with _lock:
        if threadpoolctl is _registered:
            return True

        class NormcoreController(threadpoolctl.LibController):  # type: ignore[misc, name-defined]
            """The number of normcore's threads, for the running thread or asynchronous task."""

            user_api = "normcore"
            internal_api = "normcore"
            # threadpoolctl asks only for libraries that it finds loaded: the pool.
            filename_prefixes = ("pool.",)
            check_symbols = ("normcore_thread_pool",)  # of pool_state.pxd

            def get_num_threads(self) -> int:
                return get_num_threads()

            def set_num_threads(self, num_threads: int) -> None:
                set_num_threads(num_threads)

            def get_version(self) -> str:
                return __version__

        threadpoolctl.register(NormcoreController)
        _registered = threadpoolctl
        return True
