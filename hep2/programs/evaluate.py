"""What finished runs are good for: a report, predictions of other cells, a network in one file.

And, without any run, the audit of anybody's split. `python evaluate.py task=<task>`, `hep2 <task>`.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore

from hep2 import cli, config
from hep2.errors import HEp2Error, one_of


@dataclass
class ReadingConfig:
    """How images are read."""

    page: int | None = None
    full_scale: int | None = None


@dataclass
class FieldsConfig:
    """How cells are cut out of whole fields."""

    margin: float = 0.2
    smallest: float = 0.25
    stretch: bool = False


@dataclass
class EvaluateConfig:
    """The keys of conf/evaluate.yaml; any other is an error."""

    task: str = "report"
    name: str = "default"
    runs_dir: str = "runs"
    reports_dir: str = "reports"
    run: str | None = None
    images: str | None = None
    masks: str | None = None
    names: str | None = None
    nearest: int = 0
    alpha: float | None = None
    out: str | None = None
    orientations: int | None = None
    format: str | None = None
    authors: Any = None
    license: str | None = None
    push: str | None = None
    data: ReadingConfig = field(default_factory=ReadingConfig)
    fields: FieldsConfig = field(default_factory=FieldsConfig)
    columns: Any = None
    root: str | None = None
    channel: str = "green"


config.register()
ConfigStore.instance().store(name="evaluate_schema", node=EvaluateConfig)


@hydra.main(version_base="1.3", config_path=str(config.CONF), config_name="evaluate")
def evaluate(cfg: EvaluateConfig) -> None:
    """Do one task; heavy imports wait until the configuration is known to be right."""
    tasks = {"report": report, "predict": predict, "embed": embed, "export": export, "audit": audit}
    with cli.clear_errors():
        one_of("task", cfg.task, tasks)(cfg)


def report(cfg: EvaluateConfig) -> None:
    """Print how far the runs are, the tables of the finished ones, and where the files are."""
    from hep2.evaluation.report import make_report
    from hep2.rundir.state import as_text, run_states

    root = Path(cfg.runs_dir) / cfg.name
    if states := run_states(root):
        print(as_text(root, states), flush=True)  # before anything can be found wrong
    made = make_report(cfg.name, Path(cfg.runs_dir), Path(cfg.reports_dir))
    for table in made.tables:
        print(f"\n{table.as_text()}")
    print(made.remark, end="\n\n")
    folder = Path(cfg.reports_dir) / cfg.name
    tables = [file for file in made.files if file.suffix not in (".png", ".svg")]
    print("written:", *tables, sep="\n  ")
    print(f"  and {len(made.files) - len(tables)} pictures, all in {folder}")


def predict(cfg: EvaluateConfig) -> None:
    """Name the patterns of other cells."""
    from hep2.data.fields import Cut
    from hep2.prediction.predict import predict

    reading = (cfg.data.page, cfg.data.full_scale)
    cut = Cut(cfg.fields.margin, cfg.fields.smallest, cfg.fields.stretch)
    done = predict(
        *(cfg.run, Path(cfg.runs_dir), cfg.images, cfg.out, cfg.orientations, *reading),
        masks=cfg.masks,
        cut=cut,
        names=cfg.names,
        nearest=cfg.nearest,
        alpha=cfg.alpha,
    )
    print(f"cells: {done.cells}")
    if done.unreadable:
        print(f"WARNING: without a call: {done.unreadable} (column problem says why)")
    if done.unlike:
        print(
            f"WARNING: cells unlike the training set: {done.unlike} (column unlike_training); the "
            "network's opinion of them means little. Of cells like those it learned from, one in "
            "a hundred is marked so."
        )
    print("written:", *done.files, sep="\n  ")


def embed(cfg: EvaluateConfig) -> None:
    """Write the vectors that a method makes of cells."""
    from hep2.prediction.embed import embed

    reading = (cfg.data.page, cfg.data.full_scale)
    done = embed(cfg.run, Path(cfg.runs_dir), cfg.images, cfg.out, cfg.orientations, *reading)
    print(f"cells: {done.cells}, by fold {', '.join(map(str, sorted(done.folds)))}")
    if done.unreadable:
        print(f"WARNING: images that could not be read: {done.unreadable} (column problem)")
    if done.not_held_out:
        print(
            f"WARNING: cells that their encoder may have learned from: {done.not_held_out} (column "
            "held_out); what is measured on their vectors is too good."
        )
    print("written:", *done.files, sep="\n  ")


def export(cfg: EvaluateConfig) -> None:
    """Write networks to one file or folder that other programs can run."""
    from hep2.prediction.export import export
    from hep2.prediction.exporting.card import Terms
    from hep2.prediction.exporting.hub import push

    if cfg.push and cfg.format != "hub":
        raise HEp2Error(f"push={cfg.push} uploads a folder for the hub: give format=hub")
    authors = [cfg.authors] if isinstance(cfg.authors, str) else cfg.authors
    terms = Terms(tuple(map(str, authors)) if authors else None, cfg.license)
    where = (cfg.run, Path(cfg.runs_dir), cfg.out, cfg.orientations)
    made, checked = export(*where, cfg.format, terms)
    print(checked, f"written:\n  {made}", sep="\n", flush=True)
    if cfg.push:
        print(f"pushed:\n  {push(made, cfg.push)}")


def audit(cfg: EvaluateConfig) -> None:
    """Say what stands on both sides of a split; exit code 1 where it leaks."""
    from hep2.data.split_table import Columns
    from hep2.evaluation.audit_page import sentence, tables, write_audit
    from hep2.evaluation.split_audit import audit_table

    if cfg.images is None:
        raise HEp2Error("which split? images=<CSV with the columns image, label and split or fold>")
    path, root = Path(cfg.images), Path(cfg.root) if cfg.root else None
    named = {what: None if name is None else str(name) for what, name in cfg.columns.items()}
    made = audit_table(path, Columns(**named), root, cfg.channel)
    for table in tables(made):
        print(f"{table.as_text()}")
    folder = Path(cfg.out) if cfg.out else Path(cfg.reports_dir) / f"audit-{path.stem}"
    print("written:", *write_audit(made, folder), sep="\n  ")
    print(f"\n{sentence(made)}")
    if made.leaks:
        sys.exit(1)


def main() -> None:
    """Do what this process's command line asks for."""
    cli.main(evaluate, "evaluate")
