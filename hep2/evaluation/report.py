"""From the finished runs of a name to the files of its report."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from hep2.errors import HEp2Error
from hep2.evaluation import figures, html, latex, tidy
from hep2.evaluation.cluster_table import clustering_tables
from hep2.evaluation.groups import group_runs
from hep2.evaluation.leak import leak_gaps
from hep2.evaluation.page import Page, make_page
from hep2.evaluation.results import Result, rank, summarise_group
from hep2.evaluation.runs import Run, data_label, protocol_label, read_run, run_directories
from hep2.evaluation.table import Table
from hep2.files import write_atomic
from hep2.progress import watched


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
        report / "report.html": html.page_html(page),
        report / "results.csv": tidy.results_csv(result for block in blocks for result in block),
        report / "results.md": _markdown(page),
        report / "results.tex": latex.results_tex(page.results),
    }
    pictures: dict[Path, bytes | str] = {}
    for result in watched(results, "matrices"):
        stem = f"confusion-{_file_stem(result.group.first)}"
        pictures[report / f"{stem}.csv"] = figures.confusion_csv(result)
        pictures[report / f"{stem}.png"] = figures.confusion_png(result)
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
