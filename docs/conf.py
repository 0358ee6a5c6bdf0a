"""How Sphinx builds the documentation: `make docs`."""

import fleetsim

project = "fleetsim"
author = "The fleetsim authors"
version = release = fleetsim.__version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"fleetsim {release}"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
# Some pages point to files of the repository, which are no pages of the documentation.
suppress_warnings = ["myst.xref_missing"]
