"""Temporary files that the next run removes where this one is killed.

Beside them lies a lock file, on which whoever writes them holds a lock. The lock ends with the
process, whatever ends that; so where it can be had nobody writes the files any more, in no process
and, on file systems that share locks, on no machine. It is not the files themselves that are
locked: their writers may lock or replace them, and put others beside them.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file cannot be removed while it is open
    fcntl = None  # type: ignore[assignment]

__all__ = ["LockedTemporary", "create_file", "remove_abandoned"]

_NAME = re.compile(r"\.(?:.*\.)?normcore-([0-9a-f]{16})\.(?:lock|tmp.*)", re.DOTALL)
_FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)


class LockedTemporary:
    """An empty file beside ``target``, with the permissions that shall have.

    Names that begin with its own belong to it.

    Raises
    ------
    OSError
        If there can be none, naming ``target``.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, target: Path) -> None:
        while True:
            key = secrets.token_hex(8)
            self._lock_path = _lock_path(target.parent, key)
            self._lock = create_file(self._lock_path, target)
            if fcntl is None:
                break
            with suppress(OSError):  # where no lock can be had, nothing is taken for abandoned
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self._lock_path.exists():
                break
            os.close(self._lock)  # before it was locked, another run took it for abandoned
        # The suffix stays, for writers that look at it.
        name = f".{target.stem[:40]}.normcore-{key}.tmp{target.suffix}"
        self.path = target.with_name(name)
        try:
            os.close(create_file(self.path, target))
        except BaseException:
            self._unlock()
            raise
        with suppress(OSError):
            os.chmod(self.path, stat.S_IMODE(target.stat().st_mode))

    def rename(self, target: Path) -> None:
        """Give the file its name, in place of what has it now."""
        os.replace(self.path, target)
        self._unlock()

    def remove(self) -> None:
        """Remove the file and what belongs to it."""
        for name in os.listdir(self.path.parent):
            if name.startswith(self.path.name):
                self.path.with_name(name).unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if fcntl is None:
            os.close(self._lock)
        self._lock_path.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(self._lock)


def create_file(path: Path, target: Path) -> int:
    """Create an empty file for writing ``target``, and return its descriptor.

    Raises
    ------
    OSError
        Naming ``target``.
    """
    # Not tempfile: its files are 0600 whatever the umask says.
    try:
        return os.open(path, _FLAGS, 0o666)
    except OSError as error:
        reason = f"cannot write: {error.strerror or error}"
        raise type(error)(error.errno, reason, str(target)) from error


def remove_abandoned(directory: Path) -> None:
    """Remove the temporary files that killed runs have left in a directory."""
    found: dict[str, list[Path]] = {}
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match:
                found.setdefault(match[1], []).append(directory / entry.name)
    for key, paths in found.items():
        with suppress(OSError):
            _remove_unlocked(_lock_path(directory, key), paths)


def _remove_unlocked(lock_path: Path, paths: list[Path]) -> None:
    """Remove files unless someone holds their lock; an OSError where it cannot be had."""
    descriptor = None
    if fcntl is None:
        lock_path.unlink(missing_ok=True)
    else:
        with suppress(FileNotFoundError):  # the lock is made first and removed last
            descriptor = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in [*(each for each in paths if each != lock_path), lock_path]:
            path.unlink(missing_ok=True)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_path(directory: Path, key: str) -> Path:
    return directory / f".normcore-{key}.lock"
