"""Output files that appear whole or not at all.

What is written goes to a temporary file beside the output, which takes its name at the end. A run
that is killed leaves its temporary file behind; the next one that writes in the directory removes
it.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias

from normcore.saving.locked_temporary import LockedTemporary, create_file, remove_abandoned

__all__ = ["atomic_output", "check_output", "check_paths"]

PathLike: TypeAlias = str | os.PathLike[str]


def _target(path: PathLike) -> Path:
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


def check_output(path: PathLike) -> None:
    """Find out now whether :func:`atomic_output` could write ``path`` later.

    Parameters
    ----------
    path : str or PathLike

    Raises
    ------
    OSError
        If not: no such directory, no permission, or something other than a file in the way.

    Examples
    --------
    >>> import os, tempfile
    >>> from normcore import io
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     io.check_output(os.path.join(folder, "result.npy"))  # it could be written
    """
    target = _target(path)
    probe = target.with_name(f".normcore-{secrets.token_hex(8)}.tmp")
    os.close(create_file(probe, target))
    probe.unlink(missing_ok=True)


def check_paths(data: PathLike | Sequence[PathLike], *outputs: PathLike | None) -> None:
    """Find out before any work that every output can be written and replaces no other file in use.

    Parameters
    ----------
    data : path, or paths
        A file, a directory or a pattern of files. ``-`` is standard input, and as an output
        standard output.
    *outputs : path or None

    Raises
    ------
    ValueError
        If an output is the input or a part of it, or two outputs are one file.
    OSError
        If an output cannot be written.
    """
    paths = [data] if isinstance(data, str | os.PathLike) else data
    sources = [os.fspath(each) for each in paths]
    inputs = [each for source in sources for each in _inputs(source)]
    seen: list[str] = []
    for output in outputs:
        if output is None:
            continue
        path = os.fspath(output)
        same = None
        if any(_same_file(each, path) for each in inputs):
            same = "the input"
        elif path != "-" and any(_is_part(path, source) for source in sources):
            same = "part of the input"
        elif any(_same_file(each, path) for each in seen):
            same = "another output"
        if same is not None:
            raise ValueError(f"{path} is {same} too; choose another name for the output")
        seen.append(path)
        if path != "-":
            check_output(path)


def _inputs(path: str) -> list[str]:
    """Return the files that are there for a path or a pattern."""
    if path == "-":
        return []
    if os.path.exists(path):
        return [path]
    found = glob.glob(path, recursive=True) if glob.has_magic(path) else []
    if not found:
        raise FileNotFoundError(errno.ENOENT, "No such file", path)
    return found


def _same_file(one: str, other: str) -> bool:
    """Whether two paths are one file, by whatever links."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _is_part(output: str, data: str) -> bool:
    """Whether a file would belong to a directory or a pattern that is read."""
    if os.path.isdir(data):
        return Path(os.path.realpath(output)).is_relative_to(os.path.realpath(data))
    if os.path.exists(data) or not glob.has_magic(data):
        return False
    parts, names = Path(os.path.abspath(data)).parts, Path(os.path.abspath(output)).parts
    if "**" in parts:  # any number of folders
        before = parts.index("**")
        parts = parts[:before] + parts[before + 1 :]
        names = names[:before] + names[max(before, len(names) + before - len(parts)) :]
    return len(parts) == len(names) and all(map(fnmatch, names, parts))


@contextmanager
def atomic_output(path: PathLike) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces ``path`` when the block ends well.

    The temporary file lies in the same directory; files whose names begin with its own belong to
    it. If the block raises (KeyboardInterrupt and SystemExit included) they are removed, and
    ``path`` stays as it was. An existing file keeps its permissions. What killed runs have left in
    the directory is removed.

    Parameters
    ----------
    path : str or PathLike

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from normcore import io
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "result.txt"
    ...     with io.atomic_output(path) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     path.read_text()
    'whole'
    """
    target = _target(path)
    remove_abandoned(target.parent)
    temporary = LockedTemporary(target)
    try:
        yield temporary.path
        _sync(temporary.path, os.O_WRONLY)
        temporary.rename(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.remove()
        if isinstance(error, OSError) and error.filename in (None, str(temporary.path)):
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
