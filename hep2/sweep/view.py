"""What a sweep shows: a live table on a terminal, else a line a job; the failures at the end."""

import shlex
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, nullcontext

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from hep2.config import INSTALLED
from hep2.rundir.metrics_csv import Progress, read_progress, remaining
from hep2.sweep.schedule import Outcome, Running, Schedule

TAIL = 12  # lines of a failed job's log
COLOURS = {"done": "green", "finished already": "dim", "failed": "red"}


class View:
    """Shows a schedule on a console."""

    def __init__(self, schedule: Schedule, console: Console) -> None:
        self.schedule, self.console = schedule, console
        self._begun: dict[int, int] = {}  # epochs behind a job when its process started

    def look(self) -> None:
        """Keep how many epochs were behind the jobs that have just begun."""
        for one in self.schedule.running:
            if one.job.number not in self._begun:
                self._begun[one.job.number] = read_progress(one.job.run.path).epochs

    def report(self, outcome: Outcome) -> None:
        """Print a line for a job that has ended."""
        job = outcome.job
        score = read_progress(job.run.path).metric if outcome.state == "done" else ""
        seconds = _duration(outcome.seconds) if outcome.seconds else ""
        state = f"[{COLOURS.get(outcome.state, 'yellow')}]{outcome.state}[/]"
        words = (job.title, seconds, score, outcome.reason, self.left())
        line = "  ".join(escape(word) for word in words if word)
        count = f"\\[{len(self.schedule.outcomes)}/{len(self.schedule.jobs)}]"
        self.console.print(f"{count} #{job.number} {state}  {line}", soft_wrap=True)

    def table(self) -> Table:
        """The jobs that run, and those that wait for somebody else's."""
        schedule = self.schedule
        states = [outcome.state for outcome in schedule.outcomes.values()]
        states += ["running"] * len(schedule.running) + ["waiting"] * len(schedule.waiting)
        counts = [f"{count} {state}" for state, count in Counter(states).items()]
        caption = ", ".join(filter(None, [*counts, self.left()]))
        table = Table("#", "job", "epoch", "score", "running", "left", caption=caption)
        rows = [self._row(one) for one in schedule.running]
        for job in schedule.waiting:
            if who := schedule.held.get(job.number):
                rows.append([str(job.number), job.title, "", f"waits for {who}"])
        for row in rows:
            table.add_row(*map(escape, row))
        return table

    def left(self) -> str:
        """How long the sweep will still take, as far as that can be said; empty at its end."""
        schedule = self.schedule
        running = {one.job.number: self._left_of(one) for one in schedule.running}
        if not running and not schedule.waiting:
            return ""
        seconds, whole = schedule.estimates.left(running, schedule.waiting, schedule.n_jobs)
        if not whole and not seconds:
            return "time left not known yet"
        return f"{'about' if whole else 'more than'} {_duration(seconds)} left"

    def _left_of(self, one: Running, progress: Progress | None = None) -> float | None:
        """Seconds that a job still needs: by its epochs, or by others of its kind."""
        job, progress = one.job, progress or read_progress(one.job.run.path)
        begun = self._begun.setdefault(job.number, progress.epochs)
        seconds = time.monotonic() - one.since
        left = remaining(progress.epochs, job.epochs, begun, seconds)
        usual = self.schedule.estimates.of(job)
        return max(0.0, usual - seconds) if left is None and usual is not None else left

    def _row(self, one: Running) -> list[str]:
        job, progress = one.job, read_progress(one.job.run.path)
        left = self._left_of(one, progress)
        epoch = f"{progress.epochs}/{job.epochs or '?'}"
        rest, so_far = "" if left is None else _duration(left), time.monotonic() - one.since
        return [str(job.number), job.title, epoch, progress.metric, _duration(so_far), rest]


def follow(schedule: Schedule, console: Console) -> bool:
    """Drive a schedule to its end and show it; returns whether all ended well."""
    view = View(schedule, console)
    live = Live(console=console, auto_refresh=False, transient=True)
    drawn = 0.0
    with live if console.is_terminal else nullcontext(), closing(schedule.steps()) as steps:
        for ended in steps:
            view.look()
            for outcome in ended:
                view.report(outcome)
            if console.is_terminal and time.monotonic() - drawn > 1:
                live.update(view.table(), refresh=True)
                drawn = time.monotonic()
    outcomes = [schedule.outcomes[job.number] for job in schedule.jobs]
    bad = [outcome for outcome in outcomes if not outcome.good]
    good = len(outcomes) - len(bad)
    console.print(f"{good} of {len(outcomes)} jobs are finished", highlight=False)
    for note in dict.fromkeys(note for outcome in outcomes for note in outcome.job.run.notes()):
        console.print(note, soft_wrap=True, markup=False, highlight=False)
    for outcome in bad:
        text = "\n".join(explained(outcome, schedule.command(outcome.job)))
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    return not bad


def explained(outcome: Outcome, command: Sequence[str]) -> list[str]:
    """Why a job did not end well, the end of its log, and the command that repeats it."""
    job = outcome.job
    lines = ["", f"#{job.number} {outcome.state}: {job.title}: {outcome.reason}"]
    if outcome.log_from is not None:
        lines += [f"  the end of {job.run.log}:", *(f"    {line}" for line in _tail(outcome))]
    if outcome.state in ("failed", "interrupted"):
        program, *words = command[1:]
        named = ["hep2", "train"] if program == str(INSTALLED) else ["python", program]
        lines.append(f"  again: {shlex.join([*named, *words])}")
    return lines


def _tail(outcome: Outcome) -> list[str]:
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
