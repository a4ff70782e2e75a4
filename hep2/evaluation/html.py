"""Pages from templates: nothing is loaded from elsewhere, and in HTML everything is escaped."""

from typing import Any

from hep2.evaluation.formats import NOTHING, Table


def render(template: str, **values: Any) -> str:
    """Fill a template of hep2/evaluation/templates; a value that it lacks is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("hep2.evaluation"),
        autoescape=select_autoescape(disabled_extensions=["md.j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["header_column"] = _header_column
    environment.tests["number_text"] = _is_number
    return environment.get_template(template).render(**values)


def _header_column(table: Table) -> int:
    """The column that names a row."""
    names = ("method", "other method", "published method", "cell", "run")
    return next((place for place, title in enumerate(table.heading) if title in names), 0)


def _is_number(text: str) -> bool:
    """Whether a table's text is a number, which no line break may split."""
    return text[:1].isdigit() or text[:1] in {"+", "-", "<", NOTHING}
