"""Texts of click are plain: what they hold is no markup of the pages that show them."""


def escape(_app, _context, lines):
    """Let stars be stars, in place."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app):
    """Connect to what sphinx-click writes."""
    for what in ("description", "options", "arguments", "epilog"):
        app.connect(f"sphinx-click-process-{what}", escape)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
