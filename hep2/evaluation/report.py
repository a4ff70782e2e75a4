"""From the finished runs of a name to the files of its report."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from hep2.errors import HEp2Error
from hep2.evaluation import figures, html, latex, published, tables, tidy
from hep2.evaluation.cluster_table import clustering_tables
from hep2.evaluation.groups import group_runs
from hep2.evaluation.leak import LeakGap, leak_gaps
from hep2.evaluation.results import Result, compare_with_first, rank, summarise_group
from hep2.evaluation.runs import Run, data_label, protocol_label, read_run, run_directories
from hep2.files import write_atomic

_SLOW = 2  # seconds after which a progress bar appears


@dataclass(frozen=True)
class Report:
    """What a report says, and the files that it was written to."""

    tables: list[tables.Table]
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
    runs = [read_run(path) for path in tqdm(finished, "reading runs", delay=_SLOW, leave=False)]
    groups = group_runs(runs)
    clusters = clustering_tables(runs)
    if not groups and not clusters:
        raise HEp2Error(_nothing_to_report(name, runs_dir, finished, unfinished))
    results = [summarise_group(g) for g in tqdm(groups, "statistics", delay=_SLOW, leave=False)]
    blocks = [rank(list(block)) for _, block in groupby(results, key=_data_and_protocol)]
    gaps = leak_gaps(groups)
    shown = [table for block in blocks for table in _block_tables(block)]
    shown += [tables.leaks(list(part)) for _, part in groupby(gaps, key=_data_of_gap)]
    shown += clusters
    report = reports_dir / name
    page = html.make_page(name, runs, blocks, gaps, clusters)
    files: dict[Path, bytes | str] = {
        report / "report.html": html.page_html(page),
        report / "results.csv": tidy.results_csv(result for block in blocks for result in block),
        report / "results.md": _markdown(name, shown, blocks),
        report / "results.tex": latex.results_tex(shown),
    }
    pictures: dict[Path, bytes | str] = {}
    for result in tqdm(results, "matrices", delay=_SLOW, leave=False):
        stem = f"confusion-{_file_stem(result.group.first)}"
        pictures[report / f"{stem}.csv"] = figures.confusion_csv(result)
        pictures[report / f"{stem}.png"] = figures.confusion_png(result)
    for picture in page.pictures:
        pictures[report / "figures" / f"{picture.stem}.png"] = picture.png
        pictures[report / "figures" / f"{picture.stem}.svg"] = picture.svg
    for path, content in (files | pictures).items():
        write_atomic(path, content)
    return Report(
        tables=shown,
        remark=published.paper_statement(),
        files=[*files, *pictures],
    )


def _block_tables(block: list[Result]) -> list[tables.Table]:
    """The tables of one data set and protocol."""
    run = block[0].group.first
    shown = [tables.over_folds(block), tables.pooled(block), tables.recalls(block)]
    shown.append(tables.further(block))
    pairs = compare_with_first(block)
    if pairs:
        shown.append(tables.comparisons(run, pairs))
    beside = published.beside(run.data, run.protocol)
    if beside:
        caption = f"published figures: {run.data}, protocol {protocol_label(run)}"
        shown.append(tables.published(caption, beside))
    return shown


def _markdown(name: str, shown: list[tables.Table], blocks: list[list[Result]]) -> str:
    runs = [block[0].group.first for block in blocks]
    simulated = {run.synthetic for run in runs}
    partly = "partly " if len(simulated) > 1 else ""
    synthetic = f" ({partly}synthetic cells)" if True in simulated else ""
    ours = [row for run in runs for row in published.beside(run.data, run.protocol)]
    others = [row for row in published.ROWS if row not in ours]
    caption = "published figures of ANOTHER data set or protocol: not comparable with those above"
    parts = [f"# Results of {name}{synthetic}\n", *(table.as_markdown() for table in shown)]
    parts += [f"{published.paper_statement()}\n", tables.published(caption, others).as_markdown()]
    return "\n".join(parts)


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


def _data_of_gap(gap: LeakGap) -> str:
    return gap.group.first.data


def _file_stem(run: Run) -> str:
    return f"{data_label(run)}-{protocol_label(run)}-{run.method}"
