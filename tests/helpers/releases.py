"""Which releases of other libraries the tests run with: the oldest differ in what is compared."""

from __future__ import annotations

from importlib import metadata

import pytest
from packaging.version import Version


def is_older(distribution: str, release: str) -> bool:
    """Whether a release older than one such as ``1.8`` is installed; candidates of it are not."""
    try:
        installed = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False  # tests that need it skip themselves
    return Version(installed).release < Version(release).release


def skip_before(distribution: str, release: str, change: str) -> pytest.MarkDecorator:
    """Return a mark for tests of what changed with a release of a library.

    Parameters
    ----------
    change : str
        What is so since then, as in "has MaxAbsScaler(clip=)".
    """
    reason = f"{distribution} {change} since {release}"
    return pytest.mark.skipif(is_older(distribution, release), reason=reason)
