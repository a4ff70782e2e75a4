"""How everything here is measured: in turns, medians, warm-up left out; and what a row holds."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.json")
TURNS = 5  # at least; the median of so many is reported


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what is compared, and with what.
        ours: the project's figure.
        other: what it is compared with.
        unit: of both.
        ratio: the figure that has a target, made of the two.
        target: of the ratio; None for a row that only tells what the best possible ratio is.
        at_least: whether the ratio should be at least the target, or at most.
    """

    name: str
    ours: float
    other: float
    unit: str
    ratio: float
    target: float | None
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        if self.target is None:
            return True
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target

    def as_json(self) -> dict[str, object]:
        """As results.json has it."""
        shown = {key: value for key, value in asdict(self).items() if key != "at_least"}
        return {**shown, "met": self.met}


def peak_mb() -> float:
    """The greatest resident memory that this process ever had, MB. Linux.

    Not getrusage: that one counts what the parent held when it started this process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    return peak


def configured(*overrides: str) -> DictConfig:
    """The configuration of `python train.py <overrides>`."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from hep2 import config

    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def medians(sides: Mapping[str, Callable[[], float]], turns: int = TURNS) -> dict[str, float]:
    """The median of what each side returns, called in turns; the first turn is warm-up."""
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, measure in sides.items():
            figure = measure()
            if turn:
                seen[name].append(figure)
    return {name: statistics.median(figures) for name, figures in seen.items()}


@contextmanager
def process(module: str, *arguments: str, **environment: str) -> Iterator[Callable[[], float]]:
    """A side in a process of its own, which idles until it is called: see `serve`."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None
    asked, answers = child.stdin, child.stdout

    def call() -> float:
        print("go", file=asked, flush=True)
        for line in answers:
            if line.startswith("figure "):
                return float(line.split()[1])
        raise RuntimeError(f"{module} {' '.join(arguments)} ended early")

    try:
        yield call
    finally:
        child.kill()
        child.wait()


@contextmanager
def processes(
    module: str, sides: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, Callable[[], float]]]:
    """Several of them."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(process(module, *words)) for name, words in sides.items()}


def wait_for_turn() -> None:
    """In a side's process: idle until it is called."""
    if not sys.stdin.readline():
        sys.exit()


def answer(figure: float) -> None:
    """In a side's process: hand a figure over."""
    print(f"figure {figure!r}", flush=True)


def epochs_in_turns() -> None:
    """In a side's process: every epoch of a fit waits for its turn, and answers with its seconds.

    An epoch ends where the next one begins: validation, checkpoints, pictures and logs count.
    """
    import hep2.stages.training as stage

    class Turns(stage.EpochSeed):
        """The callback that every run has, made to wait."""

        started: float | None = None

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if self.started is not None:
                answer(time.perf_counter() - self.started)
            wait_for_turn()
            self.started = time.perf_counter()
            super().on_train_epoch_start(trainer, pl_module)

    stage.EpochSeed = Turns  # type: ignore[misc]


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    print(f"{'what':66} {'ours':>10} {'other':>10} {'unit':9} {'ratio':>8} {'target':>9} met")
    for row in rows:
        if row.target is None:
            target, met = "none", "-"
        else:
            target = f"{'>=' if row.at_least else '<='} {row.target:g}"
            met = "yes" if row.met else "NO"
        print(
            f"{row.name:66} {row.ours:10.4g} {row.other:10.4g} {row.unit:9} {row.ratio:8.3g} "
            f"{target:>9} {met}"
        )


def write(rows: Sequence[Row], machine: Mapping[str, Any]) -> None:
    """Write results.json, with the machine beside every row; rows of other times stay in it."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    new = [row.as_json() | {"machine": dict(machine)} for row in rows]
    merged = {row["name"]: row for row in [*kept, *new]}
    RESULTS.write_text(json.dumps(list(merged.values()), indent=1) + "\n")
