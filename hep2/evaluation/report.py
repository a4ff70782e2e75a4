"""From the finished runs of a name to the files of its report."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from hep2.errors import HEp2Error
from hep2.evaluation import formats
from hep2.evaluation.formats import NOTHING, Table
from hep2.evaluation.leak import leak_gaps
from hep2.evaluation.page import Page, encoder_pictures, make_page, method_shown
from hep2.evaluation.plots import confusion
from hep2.evaluation.plots.networks import learning_curves
from hep2.evaluation.plots.style import Picture
from hep2.evaluation.results import Group, Result, group_runs, rank, results_csv, summarise_group
from hep2.evaluation.tables import clustering_tables
from hep2.files import watched, write_atomic
from hep2.rundir.layout import run_directories
from hep2.rundir.result import Run, data_label, protocol_label, read_run


@dataclass(frozen=True)
class Report:
    """What a report says, and the files that it was written to."""

    tables: list[Table]
    remark: str
    files: list[Path]


def make_report(name: str, runs_dir: Path, reports_dir: Path) -> Report:
    """Read the finished runs of `runs_dir/name` and write `reports_dir/name`.

    Raises:
        HEp2Error: there is no finished run that classifies, or a run is damaged, or runs that
            would be pooled do not belong together.
    """
    root = runs_dir / name
    finished, unfinished = run_directories(root)
    runs = [read_run(path) for path in watched(finished, "reading runs")]
    groups = group_runs(runs)
    clusters = clustering_tables(runs)
    if not groups and not clusters:
        raise HEp2Error(_nothing_to_report(name, runs_dir, finished, unfinished))
    results = [summarise_group(g) for g in watched(groups, "statistics")]
    blocks = [rank(list(block)) for _, block in groupby(results, key=_data_and_protocol)]
    blocks.sort(key=_honest_first)
    page = make_page(name, runs, blocks, leak_gaps(groups), clusters)
    report = reports_dir / name
    files: dict[Path, bytes | str] = {
        report / "report.html": page_html(page),
        report / "results.csv": results_csv(result for block in blocks for result in block),
        report / "results.md": _markdown(page),
        report / "results.tex": formats.results_tex(page.results),
    }
    pictures: dict[Path, bytes | str] = {}
    for result in watched(results, "matrices"):
        stem = f"confusion-{_file_stem(result.group.first)}"
        pictures[report / f"{stem}.csv"] = confusion.confusion_csv(result)
        pictures[report / f"{stem}.png"] = confusion.confusion_png(result)
    for picture in page.pictures:
        pictures[report / "figures" / f"{picture.stem}.png"] = picture.png
        pictures[report / "figures" / f"{picture.stem}.svg"] = picture.svg
    for path, content in (files | pictures).items():
        write_atomic(path, content)
    return Report(
        tables=page.results,
        remark=page.remark,
        files=[*files, *pictures],
    )


def _markdown(page: Page) -> str:
    parts = [f"# Results of {page.name}{page.synthetic}\n"]
    parts += [table.as_markdown() for table in page.results]
    return "\n".join([*parts, f"{page.remark}\n", page.elsewhere.as_markdown()])


def _nothing_to_report(
    name: str, runs_dir: Path, finished: list[Path], unfinished: list[Path]
) -> str:
    command = f"`python train.py -m stage=dcae,head fold=0,1,2,3,4 name={name}`"
    if finished:
        return (
            f"{runs_dir / name} has finished runs ({len(finished)}), but of no stage that "
            f"classifies: {command} makes some"
        )
    begun = f", {len(unfinished)} unfinished" if unfinished else ""
    others = ", ".join(_names_with_runs(runs_dir))
    hint = f" (there are runs of: {others})" if others else ""
    return f"{runs_dir / name} has no finished run{begun}{hint}: {command} makes some"


def _names_with_runs(runs_dir: Path) -> Iterable[str]:
    if not runs_dir.is_dir():
        return []
    return sorted(path.name for path in runs_dir.iterdir() if run_directories(path)[0])


def _data_and_protocol(result: Result) -> tuple[str, str]:
    return result.group.first.data, result.group.first.protocol


def _honest_first(block: list[Result]) -> tuple[str, bool]:
    return block[0].group.first.data, block[0].group.first.leaky


def _file_stem(run: Run) -> str:
    return f"{data_label(run)}-{protocol_label(run)}-{run.method}"


@dataclass(frozen=True)
class RunRecord:
    """Pictures of one run, and the rows of its predictions.csv."""

    pictures: list[Picture]
    columns: list[str]
    rows: list[list[str]]


def record_of(path: Path) -> RunRecord:
    """Read a finished run and draw it.

    Raises:
        HEp2Error: the run is damaged.
    """
    run = read_run(path)
    pictures = encoder_pictures([run])
    if run.predictions is not None:
        pictures += method_shown(summarise_group(Group((run,)))).pictures
    curves = learning_curves([run])
    file = path / "predictions.csv"
    columns, rows = [], []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as opened:
            columns, *rows = csv.reader(opened)
    return RunRecord([*pictures, *([curves] if curves else [])], columns, rows)


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
