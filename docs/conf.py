"""How Sphinx builds the site: `tox -e docs`, without a network, any warning an error."""

import socket
import sys
from pathlib import Path

import matplotlib as mpl

import normcore

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))


def stay_offline(event, arguments):
    """Refuse to ask other machines; examples may serve on this one, and ask what they serve."""
    if event == "socket.connect" and arguments[0].type == socket.SOCK_STREAM:
        _, address = arguments
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"the site is built without a network: {address[0]} was asked")


sys.addaudithook(stay_offline)

mpl.use("agg")

project = "normcore"
author = "The normcore developers"
copyright = f"2026, {author}"
version = release = normcore.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_click",
    "sphinx_copybutton",
    "flowchart",
    "plain_help",
    "repository_pages",
]
exclude_patterns = ["_ext", "support_matrix"]
templates_path = ["_templates"]
suppress_warnings = [
    "config.cache",  # conf.py holds functions
    "myst.header",  # sections of the generated tables of benchmarks are of the third level
]

# Pages are the Markdown that GitHub shows as well.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
myst_fence_as_directive = {"mermaid"}
# What these pages call by a path is a file of the repository.
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

default_role = "literal"
autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"  # the docstrings say what a parameter is
autodoc_member_order = "groupwise"

numpydoc_show_class_members = False  # the template of a class lists them
numpydoc_xref_param_type = False
# Everything is checked but what is listed, each with its reason.
numpydoc_validation_checks = {
    "all",
    "ES01",  # a summary may say it all
    "EX01",  # public names need examples, not each method: tests/docs/test_reference.py
    "GL01",  # the summary stands beside the opening quotes, as ruff's convention has it
    "GL02",  # and so may the closing ones
    "PR01",  # a reference to what describes them will do: tests/docs/test_parameters.py
    "PR02",  # bases describe what their subclasses take: QuantileLearner, weights of of_rows
    "PR03",  # parameters that belong together share an entry, whatever their order
    "PR04",  # an entry of several that another function describes has no type
    "PR07",  # a type such as "array of shape (n_samples,)" may be all there is to say
    "RT01",  # a summary that begins with "Return" says what
    "RT03",  # a type such as Report, or a name such as moments, may be all there is to say
    "SA01",  # pages of the reference list what belongs together
    "SS03",  # Python itself documents the fields of named tuples
    "SS05",  # nouns and "Whether" are summaries too
    "SS06",  # comments that document attributes may have two lines
    "YD01",  # the summary of a context manager says what its block has
}

# Attributes of a class that say something in a comment: what would be checked is their value's.
numpydoc_validation_exclude = {
    r"\.(c_functions|memory_kernels|sklearn_class|statistic|stream|whole_calls|xp)$",
}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"__init__\.py",
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "plot_gallery": "True",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "default_thumb_file": str(HERE / "_static" / "mark.svg"),
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
    "reset_modules": ("gallery_style.reset",),
    "image_srcset": ["2x"],
}

html_theme = "pydata_sphinx_theme"
html_title = "normcore"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_favicon = "_static/mark.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {
        "text": "normcore",
        "image_light": "_static/mark.svg",
        "image_dark": "_static/mark.svg",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
