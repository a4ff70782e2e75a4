"""Rows of a comparison as one sweep: jobs of different rows side by side, nothing done twice.

    python -m hep2.rows dcae_mlp,cnn,chance --jobs 2 name=reproduce fold=0,1,2,3,4

Rows are files of conf/experiment (or folders of them), each with the stages that it names. The same
command again goes on with what is missing.
"""

import sys
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from hep2 import cli
from hep2.config import PROGRAM, composed, conf_folders
from hep2.signals import die_with_parent
from hep2.sweep.jobs import plan
from hep2.sweep.launcher import run_jobs


def names_of(asked: str) -> list[str]:
    """The rows of a list with commas in it; a folder of conf/experiment means all files in it.

    A user's own folder is searched as well as the one that comes with hep2.
    """
    places = [place / "experiment" for place in conf_folders()]
    return [
        name
        for row in asked.split(",")
        for name in sorted({f"{row}/{file.stem}" for place in places
                            for file in (place / row).glob("*.yaml")}) or [row]
    ]  # fmt: skip


def jobs_of(row: str, words: Sequence[str]) -> list[list[str]]:
    """The overrides of a row's jobs: every combination of what it and the words sweep over."""
    given = {word.partition("=")[0] for word in words}
    swept = composed([f"experiment={row}"], hydra=True).hydra.sweeper.params or {}
    own = [f"{key}={values}" for key, values in swept.items() if key not in given]
    parsed = OverridesParser.create().parse_overrides([f"experiment={row}", *own, *words])
    (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for job in batch]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run them; exit code 1 where a job did not end well."""
    die_with_parent()
    parser = cli.parser("hep2.rows", __doc__)
    parser.add_argument("rows", help="files or folders of conf/experiment with commas between them")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at a time")
    parser.add_argument("overrides", nargs="*", help="as for train.py -m")
    asked = parser.parse_intermixed_args(arguments)
    with cli.clear_errors():
        rows = [jobs_of(row, asked.overrides) for row in names_of(asked.rows)]
        overrides = [words for row in rows for words in row]
        jobs = plan(overrides, [composed(words) for words in overrides])
        program = [sys.executable, str(PROGRAM)]
        if not run_jobs(jobs, lambda job: [*program, *job.overrides], asked.jobs, fail_fast=False):
            sys.exit(1)


if __name__ == "__main__":
    main()
