"""The ranked tables for a paper, in plain LaTeX that needs no package."""

from collections.abc import Sequence

from hep2.evaluation.table import NOTHING, Table

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
