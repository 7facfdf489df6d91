"""Where Python has no GIL, normcore leaves it off."""

from __future__ import annotations

import sysconfig

import pytest
from processes import printed

MODULES = """
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
import normcore
root, suffix = Path(normcore.__file__).parent, EXTENSION_SUFFIXES[0]
paths = [each.relative_to(root.parent) for each in root.rglob(f"*{suffix}")]
for path in paths:
    import_module(".".join(path.parts).removesuffix(suffix))
normcore.get_backend("cpu")
print(bool(paths), sys._is_gil_enabled())
"""


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="tox -e py314t has no GIL"
)
def test_no_compiled_module_asks_for_the_gil():
    """Python itself decides; the variable by which tox keeps it off would hide what it finds."""
    assert printed(MODULES, PYTHON_GIL=None) == "True False"
