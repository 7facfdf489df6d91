"""The directive `mermaid` for the one picture of the pages: floors, and what stands beside them.

GitHub draws the same lines with a script that takes three megabytes; here they become a small SVG
picture in the page: `name["label"]` is a floor, from the roof down, and `name("label")` stands
beside the house.
"""

import re
from html import escape

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HEIGHT, GAP, WIDTH = 30, 5, 440
BESIDE = 350


class Flowchart(SphinxDirective):
    """Draw the floors one upon the other, and plugins at their right."""

    has_content = True

    def run(self):
        """Return the picture, raw."""
        text = "\n".join(self.content)
        floors = re.findall(r'^\s*\w+\["(.*?)"\]', text, re.M)
        beside = re.findall(r'^\s*\w+\("(.*?)"\)', text, re.M)
        if not floors:
            raise self.error('a flowchart of floors has lines such as name["label"]')
        return [nodes.raw("", picture(floors, beside), format="html")]


def box(label, x, y, width, kind):
    """Return one box with its label: the name set off from what it is."""
    name, _, meaning = label.partition(": ")
    return (
        f'<g class="{kind}"><rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{x + 12}" y="{y + 20}"><tspan class="name">{escape(name)}</tspan>'
        f'<tspan dx="10">{escape(meaning)}</tspan></text></g>'
    )


def picture(floors, beside):
    """Return the SVG of both columns."""
    step = HEIGHT + GAP
    boxes = [box(each, 0, row * step, WIDTH, "floor") for row, each in enumerate(floors)]
    left = WIDTH + 40
    top = (len(floors) - len(beside)) * step // 2
    boxes += [
        box(each, left, top + row * step, BESIDE, "beside") for row, each in enumerate(beside)
    ]
    height = max(len(floors), len(beside)) * step
    return (
        f'<svg class="floors" role="img" viewBox="0 0 {left + BESIDE} {height}"'
        f' aria-label="The floors of normcore, from the roof down">{"".join(boxes)}</svg>'
    )


def setup(app):
    """Add the directive."""
    app.add_directive("mermaid", Flowchart)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
