"""How Sphinx builds these pages: `make docs`."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from cnn_perception import __version__  # noqa: E402

project = "cnn_perception"
author = "cnn_perception developers"
copyright = "cnn_perception developers, Apache-2.0"  # noqa: A001 Sphinx's name
release = __version__

extensions = [
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "extensions.reference",
]
exclude_patterns = ["extensions", "_build"]
nitpicky = True
# Types in signatures: of libraries whose pages are elsewhere, or of this package without a page of their own.
nitpick_ignore_regex = [(r"py:(class|exc|data|obj)", r".*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
smartquotes = False  # '' is an empty text, not a quotation mark

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "cnn_perception"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_theme_options = {"top_of_page_buttons": []}
html_show_sourcelink = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"

linkcheck_timeout = 20
linkcheck_ignore = [r"http://127\.0\.0\.1.*", r"http://localhost.*"]
