"""What a sweep shows: a live table on a terminal, else a line a job; the failures at the end."""

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from hep2.rundir.metrics_csv import read_progress, remaining
from hep2.sweep.schedule import Outcome, Running, Schedule

TAIL = 12  # lines of a failed job's log
COLOURS = {"done": "green", "finished already": "dim", "failed": "red"}


class View:
    """Shows a schedule on a console."""

    def __init__(self, schedule: Schedule, console: Console) -> None:
        self.schedule = schedule
        self.console = console
        self._begun: dict[int, int] = {}  # epochs behind a job when its process started
        self._live: Live | None = None
        self._drawn = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the table on the screen, where there is one."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def update(self, ended: Sequence[Outcome]) -> None:
        """Report what has ended, and draw the table anew once a second."""
        for outcome in ended:
            self._report(outcome)
        if self._live is not None and time.monotonic() - self._drawn > 1:
            self._live.update(self._table(), refresh=True)
            self._drawn = time.monotonic()

    def _report(self, outcome: Outcome) -> None:
        job, of = outcome.job, len(self.schedule.jobs)
        figure = read_progress(job.run.path).figure if outcome.state == "done" else ""
        seconds = _duration(outcome.seconds) if outcome.seconds else ""
        state = f"[{COLOURS.get(outcome.state, 'yellow')}]{outcome.state}[/]"
        words = [job.title, seconds, figure, outcome.reason]
        line = "  ".join(escape(word) for word in words if word)
        left = len(self.schedule.outcomes)
        self.console.print(f"\\[{left}/{of}] #{job.number} {state}  {line}", soft_wrap=True)

    def _table(self) -> Table:
        schedule = self.schedule
        table = Table("#", "job", "epoch", "figure", "running", "left", caption=self._caption())
        for one in schedule.running:
            table.add_row(*(escape(word) for word in self._row(one)))
        for job in schedule.waiting:
            if job.number in schedule.held:
                who = schedule.held[job.number]
                table.add_row(str(job.number), escape(job.title), "", escape(f"waits for {who}"))
        return table

    def _row(self, one: Running) -> list[str]:
        job = one.job
        progress = read_progress(job.run.path)
        begun = self._begun.setdefault(job.number, progress.epochs)
        seconds = time.monotonic() - one.since
        left = remaining(progress.epochs, job.epochs, begun, seconds)
        epoch = f"{progress.epochs}/{job.epochs or '?'}"
        rest = "" if left is None else _duration(left)
        return [str(job.number), job.title, epoch, progress.figure, _duration(seconds), rest]

    def _caption(self) -> str:
        states = [outcome.state for outcome in self.schedule.outcomes.values()]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        counts["running"] = len(self.schedule.running)
        counts["waiting"] = len(self.schedule.waiting)
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def follow(schedule: Schedule, console: Console) -> bool:
    """Drive a schedule to its end and show it; returns whether all ended well."""
    view = View(schedule, console)
    with view.shown(), closing(schedule.steps()) as steps:
        for ended in steps:
            view.update(ended)
    outcomes = [schedule.outcomes[job.number] for job in schedule.jobs]
    good = sum(outcome.good for outcome in outcomes)
    console.print(f"{good} of {len(outcomes)} jobs are finished", highlight=False)
    for outcome in outcomes:
        if not outcome.good:
            text = "\n".join(explained(outcome, schedule.command(outcome.job)))
            console.print(text, soft_wrap=True, markup=False, highlight=False)
    return good == len(outcomes)


def explained(outcome: Outcome, command: Sequence[str]) -> list[str]:
    """Why a job did not end well, the end of its log, and the command that repeats it."""
    job = outcome.job
    lines = ["", f"#{job.number} {outcome.state}: {job.title}: {outcome.reason}"]
    if outcome.log_from is not None:
        lines.append(f"  the end of {job.run.log}:")
        lines += [f"    {line}" for line in tail(outcome)]
    if outcome.state == "failed":
        lines.append(f"  again: {shlex.join(['python', *command[1:]])}")
    return lines


def tail(outcome: Outcome) -> list[str]:
    """The last lines that a job's last attempt printed."""
    try:
        with outcome.job.run.log.open("rb") as file:
            file.seek(outcome.log_from or 0)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return [f"(cannot be read: {error.strerror})"]
    return [line for line in lines if line.strip()][-TAIL:] or ["(it printed nothing)"]


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
