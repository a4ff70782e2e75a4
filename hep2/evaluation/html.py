"""The page of a report: one HTML file that holds everything and asks the network for nothing."""

from hep2.evaluation.page import Page
from hep2.evaluation.table import NOTHING, Table

LARGEST_PAGE = 5_000_000  # bytes; mail and telephones take no more
_TEXT = 600_000  # of which tables and text may need


def page_html(page: Page) -> str:
    """Fill the template; pictures that would make the page too large are named instead."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hep2.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["header_column"] = _header_column
    environment.tests["figure"] = _is_figure
    return environment.get_template("report.html.j2").render(page=page, uris=_uris(page))


def _uris(page: Page) -> dict[str, str]:
    """Data URIs by the pictures' stems, as many as fit into a page."""
    room, uris = LARGEST_PAGE - _TEXT, {}
    for picture in page.pictures:
        uri = picture.uri
        if len(uri) <= room:
            uris[picture.stem] = uri
            room -= len(uri)
    return uris


def _header_column(table: Table) -> int:
    """The column that names a row."""
    names = ("method", "other method", "published method", "cell", "run")
    found = [place for place, title in enumerate(table.heading) if title in names]
    return found[0] if found else 0


def _is_figure(text: str) -> bool:
    """Whether a table's text is a number, which no line break may split."""
    return text[:1].isdigit() or text[:1] in {"+", "-", "<", NOTHING}
