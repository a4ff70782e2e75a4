"""How `make docs` builds the site: Sphinx, from the Markdown of this folder, without a network."""

import os
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import generated  # noqa: E402, our neighbour

from hep2 import __version__  # noqa: E402

project = "hep2"
copyright = "the authors of hep2, MIT licence"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # notebooks are shown as they were committed
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
# Files of the repository: beside the site in this checkout, or where REPOSITORY says they are.
repository = os.environ.get("REPOSITORY", "../../..")
myst_url_schemes = {"http": None, "https": None, "repository": f"{repository}/{{{{path}}}}"}

default_role = "literal"  # what docstrings put in single backticks
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"

html_theme = "furo"
html_title = "hep2"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Put in what is made of other files; links out of this folder lead to the repository."""
    for name, make in generated.PARTS.items():
        mark = f"<!-- made by docs/generated.py: {name} -->"
        if mark in source[0]:
            source[0] = source[0].replace(mark, make(ROOT))
    if page.startswith("examples/"):  # which name pages of docs/ as from where they are kept
        source[0] = source[0].replace("](../docs/", "](../")
        return
    text = source[0].replace("](../examples/", "](examples/")  # shown as pages
    source[0] = text.replace("](../", "](repository:")


def setup(app: Sphinx) -> None:
    """Notebooks live in examples/; Sphinx reads what lies below this folder."""
    (HERE / "examples").mkdir(exist_ok=True)
    for notebook in (ROOT / "examples").glob("*.ipynb"):
        shutil.copy(notebook, HERE / "examples")
    app.connect("source-read", fill_in)
