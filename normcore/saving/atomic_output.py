"""Output files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_output", "check_output", "check_paths"]


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file that writing ``path`` replaces; a symbolic link stays, its target changes.

    Raises
    ------
    OSError
        If something other than a regular file is there, or no directory to hold it.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "cannot write: this is a directory", str(path))
    if target.exists() and not target.is_file():
        # Replacing a device such as /dev/null by a file would break it for everyone.
        raise OSError(errno.EINVAL, "cannot write: this is not a regular file", str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"cannot write: there is no directory {target.parent}", str(path)
        )
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot write: the file is read-only", str(path))
    return target


def _create_temporary(target: Path) -> Path:
    """Create an empty file beside ``target``, with the permissions the output shall have."""
    # Not tempfile: its files are 0600 whatever the umask says. The suffix stays, for writers
    # that look at it.
    name = f".{target.stem[:40]}.{secrets.token_hex(8)}.tmp{target.suffix}"
    temporary = target.with_name(name)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    try:
        os.close(os.open(temporary, flags, 0o666))
    except OSError as error:
        reason = f"cannot write: {error.strerror or error}"
        raise type(error)(error.errno, reason, str(target)) from error
    with suppress(OSError):
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
    return temporary


def check_output(path: str | os.PathLike[str]) -> None:
    """Find out now whether :func:`atomic_output` could write ``path`` later.

    Raises
    ------
    OSError
        If not: no such directory, no permission, or something other than a file in the way.
    """
    _create_temporary(_target(path)).unlink()


def check_paths(data: str | os.PathLike[str], *outputs: str | os.PathLike[str] | None) -> None:
    """Find out before any work that every output can be written and replaces no other file in use.

    Raises
    ------
    ValueError
        If an output is the input, or two outputs are one file.
    OSError
        If an output cannot be written.
    """
    if not Path(data).exists():
        raise FileNotFoundError(2, "No such file", str(data))
    seen = {os.path.realpath(data): "the input"}
    for output in outputs:
        if output is None:
            continue
        same = seen.get(os.path.realpath(output))
        if same is None and os.path.exists(output) and os.path.samefile(data, output):
            same = "the input"
        if same is not None:
            raise ValueError(f"{output} is {same} too; choose another name for the output")
        seen[os.path.realpath(output)] = "another output"
        check_output(output)


@contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces ``path`` when the block ends well.

    The temporary file lies in the same directory. If the block raises (KeyboardInterrupt and
    SystemExit included) it is removed, and ``path`` stays as it was. An existing file keeps its
    permissions.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    target = _target(path)
    temporary = _create_temporary(target)
    try:
        yield temporary
        _sync(temporary, os.O_WRONLY)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            # A full disk, say: what was writing knows no name that the caller does.
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"cannot write: {reason}", str(path)) from error
        raise
    with suppress(OSError):  # a rename is durable once its directory is; not all systems can
        _sync(target.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
