"""Pictures of a method's answers: how far its confidence goes, and what it may be left to call."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hep2.calls.specimens import wilson
from hep2.evaluation.plots import style
from hep2.evaluation.results import Result, columns
from hep2.evaluation.specimens import Answers, scaled_probabilities
from hep2.metrics import FloatArray
from hep2.rundir.result import protocol_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 10
FEW = 10  # cells of a bin whose accuracy is mostly chance


class _Binned:
    """Cells by their confidence, in bins of equal width."""

    def __init__(self, confidence: FloatArray, right: NDArray[np.bool_]) -> None:
        bins = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
        self.counts = np.bincount(bins, minlength=BINS)
        filled = np.flatnonzero(self.counts)
        self.filled = self.counts[filled]
        self.means = np.bincount(bins, confidence, BINS)[filled] / self.filled
        self.shares = np.bincount(bins, right, BINS)[filled] / self.filled

    @property
    def gap(self) -> float:
        """Confidence minus accuracy, mean over cells."""
        return float((self.means - self.shares) @ self.filled / self.counts.sum())

    def draw(self, axes: "Axes", colour: str, mark: str, label: str | None) -> None:
        """A line through the bins with many cells, hollow marks for the others."""
        many = self.filled >= FEW
        x, y = 100 * self.means, 100 * self.shares
        axes.plot(x[many], y[many], f"{mark}-", color=colour, markersize=5, label=label)
        axes.plot(x[~many], y[~many], mark, color=colour, markersize=5, fillstyle="none")


def reliability(result: Result) -> style.Picture:
    """Accuracy of cells that were called with about the same confidence, before and after."""
    run = result.group.first
    names = ("probabilities", "targets", "outputs")
    probabilities, targets, outputs = columns(result.group.runs, *names)
    right, scaled = targets == outputs, scaled_probabilities(result.group)
    before = _Binned(probabilities.max(axis=1), right)
    after = None if scaled is None else _Binned(scaled.max(axis=1), right)
    errors = [result.measures[name].mean for name in ("ece", "ece_calibrated")
              if name in result.measures]  # fmt: skip

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
        upper.plot([0, 100], [0, 100], color=style.FAINT, linestyle="--", linewidth=1)
        before.draw(upper, "#0072B2", "o", "before calibration" if after else None)
        if after:
            after.draw(upper, "#D55E00", "s", "after")
            upper.legend(loc="upper left")
        upper.set(xlim=(0, 101), ylim=(0, 103), ylabel="accuracy %")
        upper.grid(color=style.FAINT, alpha=0.35, linewidth=0.6)
        edges = 100 * np.arange(BINS) / BINS
        lower.bar(edges, before.counts, 100 / BINS, align="edge", color="#56B4E9")
        if after:
            lower.stairs(after.counts, np.append(edges, 100), color="#D55E00", linewidth=1.2)
        lower.set(xlabel=f"confidence % ({protocol_label(run)})", ylabel="cells")

    changed = f", after calibration {100 * errors[1]:.1f}" if after else ""
    learned = "Temperatures come from training specimens that were held out"
    scaling = f"{learned if after else 'Not calibrated'}. "
    return style.make_picture(
        draw,
        (style.WIDTH, 4.4),
        f"{result.method}: {style.title_of(run)}",
        style.stem_of(run, "reliability"),
        "How far its confidence can be believed",
        f"Reliability diagram: confidence is {100 * abs(before.gap):.1f} points "
        f"{'over' if before.gap > 0 else 'under'} accuracy on average; expected calibration error "
        f"{100 * errors[0]:.1f} points{changed}.",
        f"{style.title_of(run)}. Cells in ten bins of confidence; on the dashed line confidence "
        f"and accuracy agree. {scaling}Hollow marks: fewer than {FEW} cells.",
    )


def called_against_error(result: Result, answers: Answers) -> style.Picture:
    """Share of specimens that the machine calls, the surest first, against error among them."""
    run, curve = result.group.first, answers.curve
    lows, highs = wilson(curve[:, 1], curve[:, 0] * answers.count)
    said, error = answers.said, answers.error_said
    marked = answers.calibrated and said.estimate > 0
    diamond = "; diamond: a set of one pattern, no second one, enough cells, most like known ones"

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        shares = 100 * curve[:, 0]
        axes.fill_between(shares, 100 * lows, 100 * highs, color="#56B4E9", alpha=0.3, linewidth=0)
        axes.plot(shares, 100 * curve[:, 1], "-", color="#0072B2", drawstyle="steps-pre")
        if marked:
            axes.plot(100 * said.estimate, 100 * error.estimate, "D", color="#D55E00",
                      label="called, as the run is set", clip_on=False)  # fmt: skip
            axes.legend(loc="upper left")
        top = 105 * min(1.0, max(0.2, float(curve[:, 1].max()) * 1.5))
        axes.set(xlim=(0, 101), ylim=(0, top),
                 xlabel=f"specimens called by the machine, % ({protocol_label(run)})",
                 ylabel="wrong among them, %")  # fmt: skip
        axes.grid(color=style.FAINT, alpha=0.35, linewidth=0.6)

    point = (f"; as the run is set it calls {100 * said.estimate:.0f} per cent, "
             f"{100 * error.estimate:.0f} per cent of them wrongly") if marked else ""  # fmt: skip
    return style.make_picture(
        draw,
        (style.WIDTH, 3.2),
        f"{result.method}: {style.title_of(run)}",
        style.stem_of(run, "called"),
        "What it may be left to call",
        f"Error among the specimens that are called, from the surest to all {answers.count}: with "
        f"all of them {100 * curve[-1, 1]:.0f} per cent are wrong{point}.",
        f"{style.title_of(run)}. Specimens by the probability of their call, the surest first. "
        f"Band: Wilson's 95 % interval over specimens{diamond * marked}.",
    )
