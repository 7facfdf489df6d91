"""What each example of the gallery begins with: one style of pictures, and the same numbers."""

import matplotlib.pyplot as plt
import numpy as np

STYLE = {
    "figure.figsize": (9, 3.6),
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "font.size": 10,
    "legend.frameon": False,
    "axes.prop_cycle": plt.cycler(
        color=["#2563a8", "#d1651f", "#2f8f5b", "#8b4fae", "#b8336a", "#6b6b6b"]
    ),
}


def reset(gallery_conf, fname):
    """Set the style, and close what the last example left open."""
    plt.close("all")
    plt.rcdefaults()
    plt.rcParams.update(STYLE)
    np.random.seed(0)  # noqa: NPY002 - for libraries that draw from it
