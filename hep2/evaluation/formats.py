"""A table: captioned rows of text, as aligned text for the terminal and as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from hep2.evaluation.results import Spread
from hep2.evaluation.statistics import Interval

NOTHING = "–"  # noqa: RUF001  the dash that tables print where there is no figure


@dataclass(frozen=True)
class Table:
    """A caption, a heading, rows of text, and notes below."""

    caption: str
    heading: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def as_text(self) -> str:
        """Aligned columns for the terminal."""
        heading = [
            list(line) for line in zip_longest(*map(str.splitlines, self.heading), fillvalue="")
        ]
        columns = zip(*heading, *self.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        rule = ["-" * width for width in widths]
        padded = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in [*heading, rule, *self.rows]
        ]
        return "\n".join([self.caption, *padded, *(f"  {note}" for note in self.notes)]) + "\n"

    def as_markdown(self) -> str:
        """A Markdown table under its caption."""
        lines = [self.heading, ["---"] * len(self.heading), *self.rows]
        body = ["| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"**{self.caption}**", "", *body, "", *notes]).rstrip() + "\n"


def spread_text(values: Spread, scale: int, digits: int) -> str:
    """Mean and, where there are several folds, deviation."""
    if math.isnan(values.mean):
        return NOTHING
    mean = f"{scale * values.mean:.{digits}f}"
    return mean if math.isnan(values.sd) else f"{mean} ± {scale * values.sd:.{digits}f}"


def interval_text(values: Interval, signed: bool = False) -> str:
    """Per cent, and the interval where there is one."""
    sign = "+" if signed else ""
    estimate, low, high = (f"{100 * value:{sign}.2f}" for value in values)
    return estimate if math.isnan(values.low) else f"{estimate} [{low}, {high}]"


def _in_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", NOTHING: "--",
}  # fmt: skip


def results_tex(shown: Sequence[Table]) -> str:
    """Each table as a `table` environment, its notes below it."""
    return "\n".join(_environment(table) for table in shown)


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text.replace("\n", " "))


def _environment(table: Table) -> str:
    lines = [" & ".join(map(escaped, row)) + r" \\" for row in [table.heading, *table.rows]]
    notes = [rf"\par\footnotesize {escaped(note)}" for note in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escaped(table.caption)}}}",
            r"\centering",
            rf"\begin{{tabular}}{{{'l' * len(table.heading)}}}",
            r"\hline",
            lines[0],
            r"\hline",
            *lines[1:],
            r"\hline",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )
