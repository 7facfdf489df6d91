"""Every public name, and those that the pages of the reference list."""

import ast
import re

from paths import ROOT

from normcore.package.public_names import ALL

__all__ = ["listed_names", "names_to_list", "public_names"]

MODULES = (
    "functional", "io", "engines", "testing", "mpi", "torch", "torch.functional", "jax", "keras",
)  # fmt: skip


def names_of_plugins():
    """Return the names that first-party plugins add to the package, as its stub has them."""
    stub = ast.parse((ROOT / "normcore" / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return [
        each.name for node in imports if node.module.startswith("normcore_") for each in node.names
    ]


def all_of(module):
    """Return `__all__` of a public submodule, from its source: its library may be missing."""
    path = ROOT / "normcore" / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no __all__")


def public_names():
    """Return every public name with its module in front."""
    names = [f"normcore.{name}" for name in (*ALL, *names_of_plugins())]
    return names + [f"normcore.{each}.{name}" for each in MODULES for name in all_of(each)]


def listed_names():
    """Return the names that pages of the reference list, with their modules in front."""
    listed = []
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            found = re.match(r"\.\. (currentmodule|py:data):: (\S+)", line)
            if found and found[1] == "currentmodule":
                module = found[2]
            elif found:
                listed.append(f"{module}.{found[2]}")
            elif re.match(r"   \w+$", line):
                listed.append(f"{module}.{line.strip()}")
    return listed


def names_to_list():
    """Return public names but modules, which have pages, and names that the package has, too."""
    twice = {f"normcore.{each}.{name}" for each in MODULES for name in ALL}
    return set(public_names()) - {f"normcore.{each}" for each in MODULES} - twice
