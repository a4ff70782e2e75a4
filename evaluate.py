"""Tables and pictures of the finished runs of a name: `python evaluate.py name=default`."""

import sys
from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore


@dataclass
class EvaluateConfig:
    """The keys of conf/evaluate.yaml; any other is an error."""

    name: str = "default"
    runs_dir: str = "runs"
    reports_dir: str = "reports"


ConfigStore.instance().store(name="evaluate_schema", node=EvaluateConfig)


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: EvaluateConfig) -> None:
    """Read finished runs, print their tables and say where the files are."""
    from pathlib import Path

    from hep2.errors import HEp2Error
    from hep2.evaluation.report import make_report

    try:
        report = make_report(cfg.name, Path(cfg.runs_dir), Path(cfg.reports_dir))
    except HEp2Error as error:
        sys.exit(f"error: {error}")
    print(report.state, *(table.as_text() for table in report.tables), sep="\n\n")
    print(report.remark, end="\n\n")
    print("written:", *report.files, sep="\n  ")


if __name__ == "__main__":
    main()
