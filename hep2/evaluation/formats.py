"""Tables as text for the terminal, Markdown and LaTeX; pages of tables and pictures as HTML."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Self, TypeVar

from hep2.evaluation.results import Spread
from hep2.evaluation.statistics import Interval
from hep2.rundir.result import Run, data_label, protocol_label

T = TypeVar("T")

NOTHING = "–"  # noqa: RUF001  the dash that tables print where there is no value


@dataclass(frozen=True)
class Table:
    """A caption, a heading, rows of text, and notes below."""

    caption: str
    heading: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        caption: str,
        things: Iterable[T],
        columns: Mapping[str, Callable[[T], str]],
        notes: Sequence[str] = (),
    ) -> Self:
        """A table with a row for each thing: by heading, the text that its cell holds."""
        rows = [[text(thing) for text in columns.values()] for thing in things]
        return cls(caption, list(columns), rows, list(notes))

    def as_text(self) -> str:
        """Aligned columns for the terminal."""
        heading = list(zip_longest(*map(str.splitlines, self.heading), fillvalue=""))
        widths = [max(map(len, column)) for column in zip(*heading, *self.rows, strict=True)]
        rule = ["-" * width for width in widths]
        padded = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in [*heading, rule, *self.rows]
        ]
        return "\n".join([self.caption, *padded, *(f"  {note}" for note in self.notes)]) + "\n"

    def as_markdown(self) -> str:
        """A Markdown table under its caption."""
        rows = [[text.replace("|", "\\|").replace("\n", " ") for text in row]
                for row in [self.heading, ["---"] * len(self.heading), *self.rows]]  # fmt: skip
        body = ["| " + " | ".join(row) + " |" for row in rows]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"**{self.caption}**", "", *body, "", *notes]).rstrip() + "\n"

    def as_latex(self) -> str:
        """A `table` environment, the notes below the table."""
        heading, *rows = (
            " & ".join(map(escaped, row)) + r" \\" for row in [self.heading, *self.rows]
        )
        lines = [
            r"\begin{table}",
            rf"\caption{{{escaped(self.caption)}}}",
            r"\centering",
            rf"\begin{{tabular}}{{{'l' * len(self.heading)}}}",
            *(r"\hline", heading, r"\hline", *rows, r"\hline"),
            r"\end{tabular}",
            *(rf"\par\footnotesize {escaped(note)}" for note in self.notes),
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def caption(run: Run, what: str) -> str:
    """Data set, protocol and what the table shows; synthetic and leaky ones say so."""
    leak = ", leaky: cells of one specimen on both sides" if run.leaky else ""
    return f"{cells_label(run)}, protocol {protocol_label(run)}{leak}: {what}"


def cells_label(run: Run) -> str:
    """The data set; simulated cells say so."""
    return f"{data_label(run)} cells{' (simulated, not real)' if run.synthetic else ''}"


def spread_text(values: Spread, scale: int) -> str:
    """Mean and, where there are several folds, deviation: per cent (scale 100) or plain (1)."""
    if math.isnan(values.mean):
        return NOTHING
    digits = 2 if scale == 100 else 3
    mean = f"{scale * values.mean:.{digits}f}"
    return mean if math.isnan(values.sd) else f"{mean} ± {scale * values.sd:.{digits}f}"


def interval_text(values: Interval, signed: bool = False) -> str:
    """Per cent, and the interval where there is one."""
    sign = "+" if signed else ""
    estimate, low, high = (f"{100 * value:{sign}.2f}" for value in values)
    return estimate if math.isnan(values.low) else f"{estimate} [{low}, {high}]"


_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", NOTHING: "--", "\n": " ",
})  # fmt: skip


def escaped(text: str) -> str:
    """Text that LaTeX prints unchanged."""
    return text.translate(_SPECIAL)


def render(template: str, **values: Any) -> str:
    """Fill a template of hep2/evaluation/templates; a value that it lacks is an error.

    Pages load nothing from elsewhere, and in HTML everything is escaped.
    """
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
