"""From the finished runs of a name to the files of its report."""

import csv
import shlex
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from hep2.config import override
from hep2.errors import HEp2Error
from hep2.evaluation.formats import Table, render
from hep2.evaluation.leak import leak_gaps
from hep2.evaluation.page import Page, encoder_pictures, make_page, show_method
from hep2.evaluation.plots.confusion import confusion_csv, confusion_picture
from hep2.evaluation.plots.networks import learning_curves
from hep2.evaluation.plots.style import Picture, stem_of
from hep2.evaluation.results import Group, group_runs, rank, results_csv, summarise_group
from hep2.evaluation.specimens import answers_of
from hep2.evaluation.tables import clusterings
from hep2.files import progress_bar, write_atomic
from hep2.rundir.layout import run_directories
from hep2.rundir.result import read_run

LARGEST_PAGE = 5_000_000  # bytes; mail and telephones take no more
_TEXT = 600_000  # of which tables and text may need


@dataclass(frozen=True)
class Report:
    """What a report says, and the files that it was written to."""

    tables: list[Table]
    remark: str
    files: list[Path]


@dataclass(frozen=True)
class RunRecord:
    """Pictures of one run, and the rows of its predictions.csv."""

    pictures: list[Picture]
    columns: list[str]
    rows: list[list[str]]


def make_report(name: str, runs_dir: Path, reports_dir: Path) -> Report:
    """Read the finished runs of `runs_dir/name` and write `reports_dir/name`.

    Raises:
        HEp2Error: no finished run classifies, a run is damaged, or runs cannot be pooled.
    """
    finished, unfinished = run_directories(runs_dir / name)
    runs = [read_run(path) for path in progress_bar(finished, "reading runs")]
    groups = group_runs(runs)
    clusters = clusterings(runs)
    if not groups and not clusters:
        raise _nothing_to_report(name, runs_dir, finished, unfinished)
    results = [summarise_group(group) for group in progress_bar(groups, "statistics")]
    by_place = groupby(results, key=lambda r: (r.group.first.data, r.group.first.protocol))
    blocks = [rank(list(block)) for _, block in by_place]
    blocks.sort(key=lambda block: (block[0].group.first.data, block[0].group.first.leaky))
    page = make_page(name, runs, blocks, leak_gaps(groups), clusters)
    title, published = f"# Results of {name}{page.synthetic}\n", page.elsewhere.as_markdown()
    rows = [table.as_markdown() for table in page.results]
    files: dict[str, bytes | str] = {
        "report.html": page_html(page),
        "results.csv": results_csv(result for block in blocks for result in block),
        "results.md": "\n".join([title, *rows, f"{page.remark}\n", published]),
        "results.tex": "\n".join(table.as_latex() for table in page.results),
    }
    for result in progress_bar(results, "matrices"):
        stem = stem_of(result.group.first, "confusion")
        files[f"{stem}.csv"] = confusion_csv(result)
        files[f"{stem}.png"] = confusion_picture(result, large=True).png
    for picture in page.pictures:
        files[f"figures/{picture.stem}.png"] = picture.png
        files[f"figures/{picture.stem}.svg"] = picture.svg
    written = {reports_dir / name / file: content for file, content in files.items()}
    for path, content in written.items():
        write_atomic(path, content)
    return Report(page.results, page.remark, list(written))


def record_of(path: Path) -> RunRecord:
    """Read a finished run and draw it.

    Raises:
        HEp2Error: the run is damaged.
    """
    run = read_run(path)
    pictures = encoder_pictures([run])
    if run.predictions is not None:
        group = Group((run,))
        pictures += show_method(summarise_group(group), answers_of(group)).pictures
    columns, rows = [], []
    file = path / "predictions.csv"
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as opened:
            columns, *rows = csv.reader(opened)
    return RunRecord([*pictures, *learning_curves([run])], columns, rows)


def page_html(page: Page) -> str:
    """Fill the template; pictures that would make the page too large are named instead."""
    room, uris = LARGEST_PAGE - _TEXT, {}
    for picture in page.pictures:
        uri = picture.uri
        if len(uri) <= room:
            uris[picture.stem] = uri
            room -= len(uri)
    return render("report.html.j2", page=page, uris=uris)


def _nothing_to_report(
    name: str, runs_dir: Path, finished: list[Path], unfinished: list[Path]
) -> HEp2Error:
    found = f"has finished runs ({len(finished)}), but of no stage that classifies"
    if not finished:
        begun = f", {len(unfinished)} unfinished" if unfinished else ""
        names = sorted(runs_dir.iterdir()) if runs_dir.is_dir() else []
        others = ", ".join(path.name for path in names if run_directories(path)[0])
        found = f"has no finished run{begun}{f' (there are runs of: {others})' if others else ''}"
    words = ["-m", "stage=dcae,head", "fold=0,1,2,3,4", override("name", name)]
    words += [override("runs_dir", str(runs_dir))] * (runs_dir != Path("runs"))
    command = shlex.join(["python", "train.py", *words])
    return HEp2Error(f"{runs_dir / name} {found}: `{command}` makes some")
