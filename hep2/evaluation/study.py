"""Pictures of a hyper-parameter search."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hep2.files import write_atomic

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)


def draw(study: "optuna.Study", folder: Path, figure_name: str, remark: str) -> list[Path]:
    """Draw a study; what cannot be drawn yet (importances of one trial) is left out.

    Args:
        study: of Optuna.
        folder: where the pictures go.
        figure_name: what was searched for the largest of.
        remark: the title of all of them: which data, folds and protocol.

    Returns:
        The pictures' files.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    pictures: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study, target_name=figure_name),
        "folds": lambda: _over_folds(plots.plot_intermediate_values(study), figure_name),
        "importances": lambda: plots.plot_param_importances(study, target_name=figure_name),
        "settings": lambda: _side_by_side(plots.plot_slice(study, target_name=figure_name)),
    }
    drawn = []
    for name, plot in pictures.items():
        try:
            plot()
        except (ValueError, RuntimeError) as error:
            log.info("%s is not drawn: %s", name, error)
        else:
            drawn.append(folder / f"{name}.png")
            write_atomic(drawn[-1], _png(pyplot.gcf(), remark))
        pyplot.close("all")
    return drawn


def _over_folds(axes: Any, figure_name: str) -> None:
    """Say what the steps are; a colour for each of thirty trials tells nobody which is which."""
    axes.set(title="Trials fold by fold", xlabel="Folds before this one")
    axes.set_ylabel(f"{figure_name} so far")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.get_legend() is not None:
        axes.get_legend().remove()


def _side_by_side(axes: Any) -> None:
    """Room for one panel a setting, so that their ticks do not overlap."""
    from matplotlib.ticker import NullFormatter

    panels = np.atleast_1d(axes)
    for panel in panels:
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.figure.set_size_inches(4 * len(panels), 4.8)


def _png(figure: Any, remark: str) -> bytes:
    figure.suptitle(remark)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, bbox_inches="tight")
    return buffer.getvalue()
