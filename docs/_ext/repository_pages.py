"""Pages of the repository's root on the site, and links of pages to them."""

import re
from pathlib import Path

#: What of the root is a page of the site, and where; README.md is what the start page says.
PAGES = {
    "README.md": "index",
    "CHANGELOG.md": "project/changelog",
    "CODE_OF_CONDUCT.md": "project/conduct",
    "CONTRIBUTING.md": "project/contributing",
    "SECURITY.md": "project/security",
}


def rewrite(app, docname, source):
    """Lead links to the root's pages to those of the site, whatever page they stand in."""
    up = "../" * docname.count("/")
    own = [name for name, page in PAGES.items() if page == docname and name != "README.md"]
    if own:  # the page is the one of the root, whose links begin there
        root = Path(app.srcdir).parent
        source[0] = re.sub(
            r"\]\((?![a-z]+:|#)([^)]+)\)",
            lambda found: f"]({from_root(found[1], up)})",
            (root / own[0]).read_text(encoding="utf-8"),
        )
        return
    for name, page in PAGES.items():
        source[0] = source[0].replace(f"]({up}../{name}", f"]({up}{page}.md")
    if not up:  # other Markdown of the repository is a file to look at, no page
        source[0] = re.sub(r"\]\((\.\./[\w/.-]+\.md)\)", r"](path:\1)", source[0])


def from_root(target, up):
    """Return where a link of a page of the root leads, seen from ``up``."""
    path, mark, anchor = target.partition("#")
    if path in PAGES:
        path = f"{up}{PAGES[path]}.md"
    elif path.startswith("docs/"):
        path = up + path.removeprefix("docs/")
    else:
        path = f"{up}../{path}"
        path = f"path:{path}" if path.endswith(".md") else path  # a file to look at, no page
    return path + mark + anchor


def setup(app):
    """Connect to what Sphinx reads."""
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
