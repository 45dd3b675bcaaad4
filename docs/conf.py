"""Sphinx settings.

pip install -c constraints.txt -e ".[docs]" && sphinx-build -W docs docs/_build
"""

import llc

project = "llc-toolkit"
author = "The llc-toolkit authors"
release = llc.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "llc-toolkit"
html_static_path = ["_static"]
html_css_files = ["gallery.css"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
