"""First-party plugins are written as an outsider would write them: public names alone."""

import ast
import re

import pytest
from paths import ROOT

import normcore as nc
from normcore import registration

SOURCES = sorted(
    path for path in (ROOT / "plugins").rglob("*.p*") if path.suffix in {".py", ".pyx", ".pyi"}
)
#: Public modules of normcore, beside what `import normcore as nc` offers.
MODULES = {"normcore.io", "normcore.testing"}
#: What a base offers to those who derive from it, and to nobody else.
PROTECTED = {"_check_mergeable"}


def imports(text):
    """Return what a file imports, Cython's too, as (module, name) with "" for the whole module."""
    text = re.sub(r"\(([^()]*)\)", lambda found: " ".join(found[1].split()), text)
    found = []
    for line in text.splitlines():
        statement = re.match(r"\s*from\s+([\w.]+)\s+c?import\s+(.+)", line)
        if statement:
            names = [each.split()[0] for each in statement[2].split(",") if each.strip()]
            found += [(statement[1], name) for name in names]
            continue
        statement = re.match(r"\s*c?import\s+([\w., ]+)", line)
        if statement:
            found += [(each.split()[0], "") for each in statement[1].split(",") if each.strip()]
    return found


def is_public(module, name, own):
    top = module.partition(".")[0]
    if top == "normcore":
        if module == "normcore":
            return not name or name in nc.__all__ or f"normcore.{name}" in MODULES
        return module in MODULES and not name.startswith("_")
    return not top.startswith("normcore_") or top == own


@pytest.mark.parametrize(
    "path", SOURCES, ids=[path.relative_to(ROOT / "plugins").as_posix() for path in SOURCES]
)
def test_plugins_import_public_names_alone(path):
    own = path.relative_to(ROOT / "plugins").parts[0]
    for module, name in imports(path.read_text(encoding="utf-8")):
        assert is_public(module, name, own), f"{module} {name}"


def is_own(node):
    """Whether a node is an object or its class, or what that derives from."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


@pytest.mark.parametrize("package", sorted({path.parent for path in SOURCES}), ids=lambda p: p.name)
def test_plugins_use_public_attributes_alone(package):
    """Of `nc`, and of what they derive from: a private one is defined in the plugin itself."""
    supplied = {row.target.partition(":")[2] for row in registration.registrations()}
    nodes = [
        node
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    defined |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    for node in attributes:
        if isinstance(node.value, ast.Name) and node.value.id in ("nc", "normcore"):
            assert node.attr in nc.__all__ or node.attr in supplied, node.attr
        elif is_own(node.value) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert node.attr in defined | PROTECTED, node.attr


def test_private_names_are_noticed():
    text = (
        "from normcore.scaling import (\n    Scaler,\n)\nfrom normcore.threads.pool cimport Work\n"
    )
    assert imports(text) == [("normcore.scaling", "Scaler"), ("normcore.threads.pool", "Work")]
    assert not is_public("normcore.scaling", "Scaler", "normcore_mine")
    assert not is_public("normcore", "scaling", "normcore_mine")
    assert not is_public("normcore_other", "Thing", "normcore_mine")
    assert is_public("normcore", "AffineScaler", "normcore_mine")
    assert is_public("normcore_mine.kernels", "run", "normcore_mine")
    assert len(SOURCES) > 10
