"""One configuration on all folds, by its mean MCA on validation cells: what a search compares.

    python -m hep2.sweep.folds name=tuning head.dropout=0.3 stage.optimizer.lr=1e-3

trains what is missing (encoders are shared by all heads of a name) and prints the mean. As the
program of a W&B sweep (conf/sweep_bayes.yaml) it logs the mean, fold after fold, as `mean_val_mca`.
A search never sees the test cells; and never one fold alone, for it would pick the easiest.
"""

import hashlib
import os
import statistics
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from hep2 import cli
from hep2.config import PROGRAM, composed
from hep2.errors import HEp2Error
from hep2.rundir.metrics_csv import validation_mca
from hep2.signals import die_with_parent
from hep2.sweep.forkserver import starter
from hep2.sweep.jobs import Job, plan
from hep2.sweep.processes import Resources, visible_gpus
from hep2.sweep.schedule import Schedule
from hep2.sweep.view import explained

HEADS_OWN = ("stage", "head", "features")  # groups that an encoder does not depend on
SHARED = ("name", "data", "protocol", "runs_dir", "cache_dir", "trainer", "debug", "seed")
METRIC = "mean_val_mca"
VALIDATION = "protocol.validation=0.2"  # a search compares by cells that are held out of training


def fold_by_fold(
    given: Sequence[str], tuned: Sequence[str], folds: Sequence[int]
) -> Iterator[float]:
    """Train encoder and head of one fold after the other; yields each fold's validation MCA.

    Args:
        given: overrides of `train.py` that all configurations of a search have in common.
        tuned: those that tell this configuration from the others. Its heads are kept under a name
            that follows from them, so that the same configuration is never trained twice.
        folds: which ones.

    Raises:
        HEp2Error: a job failed (the message has the end of its log), or a fold has no validation
            cells of every pattern.
    """
    name = str(composed(given).name)
    for_encoder = [word for word in tuned if _group(word) not in HEADS_OWN]
    for fold in folds:
        words = [VALIDATION, *given, "logger=csv", f"fold={fold}"]
        encoder = _job(*words, *for_encoder, "stage=dcae", _name(name, for_encoder))
        _run(encoder)
        best = f"encoder='{encoder.run.best}'"
        head = _job(*words, "stage=head", *tuned, _name(name, tuned), best)
        _run(head)
        yield validation_mca(head.run.path)


def _group(word: str) -> str:
    return word.partition("=")[0].partition(".")[0]


def _job(*words: str) -> Job:
    return plan([words], [composed(words)])[0]


def _name(search: str, tuned: Sequence[str]) -> str:
    """A name for each configuration: the search's own, and a digest of what is tuned."""
    digest = hashlib.sha256(" ".join(sorted(tuned)).encode()).hexdigest()
    return f"name={search}-{digest[:8]}" if tuned else f"name={search}"


def _run(job: Job) -> None:
    command = [sys.executable, str(PROGRAM), *job.overrides]
    gpus = visible_gpus()
    start = starter(several=True, gpus=gpus)
    schedule = Schedule([job], lambda _: command, resources=Resources(gpus), start=start)
    with closing(schedule.steps()) as steps:
        deque(steps, maxlen=0)
    outcome = schedule.outcomes[job.number]
    if not outcome.good:
        raise HEp2Error("\n".join(explained(outcome, command)).strip())


def fold_numbers(text: str) -> list[int]:
    """Numbers out of "0,1,2", for a command line."""
    return [int(fold) for fold in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the mean validation MCA of a configuration; log it where a W&B agent asks for it."""
    die_with_parent()
    parser = cli.parser("hep2.sweep.folds", __doc__)
    parser.add_argument(
        "--folds", type=fold_numbers, default="0,1,2,3,4", help="numbers with commas between them"
    )
    parser.add_argument("overrides", nargs="*", help="as for train.py; name=... names the search")
    asked = parser.parse_args(arguments)
    given = [word for word in asked.overrides if _group(word) in SHARED]
    tuned = [word for word in asked.overrides if word not in given]
    with cli.clear_errors():
        agent: Any = None
        if "WANDB_SWEEP_ID" in os.environ:  # an agent expects a run; the jobs have none
            import wandb

            agent = wandb.init()
        scores: list[float] = []
        by_fold = fold_by_fold(given, tuned, asked.folds)
        for fold, score in zip(asked.folds, by_fold, strict=True):
            scores.append(score)
            print(f"fold {fold}: validation MCA {score:.4f}", flush=True)
            if agent is not None:
                agent.log({METRIC: statistics.fmean(scores), "folds": len(scores)})
        print(f"{METRIC} {statistics.fmean(scores):.4f}")
        if agent is not None:
            agent.finish()


if __name__ == "__main__":
    main()
