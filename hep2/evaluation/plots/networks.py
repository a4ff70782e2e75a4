"""Diagrams of trained networks: learning curves, and maps of latents."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from hep2.evaluation.plots import style
from hep2.metrics import FloatArray, StringArray
from hep2.rundir.artifacts import LatentMap, curves_of
from hep2.rundir.result import Run, protocol_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curves(runs: Iterable[Run]) -> list[style.Picture]:
    """Losses of training and validation over epochs, a line a run; none where none was kept."""
    kept = [(run, curves) for run in runs if "train/loss" in (curves := curves_of(run))]
    if not kept:
        return []
    first = kept[0][0]
    parts = (
        ("train/loss", "training", "#0072B2", "-"),
        ("val/loss", "validation", "#D55E00", "--"),
    )

    def draw(figure: "Figure") -> None:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes = figure.subplots()
        for (name, label, colour, line), (place, (_, curves)) in product(parts, enumerate(kept)):
            if name in curves:
                axes.plot(*curves[name].T, line, color=colour, linewidth=1.2, alpha=0.75,
                          label=label if place == 0 else None)  # fmt: skip
        axes.set(xlabel="epoch (from 0)", ylabel=f"loss ({protocol_label(first)})")
        if all(np.all(points[:, 1] > 0) for _, curves in kept for points in curves.values()):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter("{x:.2g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(color=style.FAINT, alpha=0.35, linewidth=0.6, which="both")
        axes.legend()

    last = np.mean([curves["train/loss"][-1, 1] for _, curves in kept])
    picture = style.make_picture(
        draw,
        (style.WIDTH, 3.2),
        f"{first.stage}-{first.method}: {style.title_of(first)}",
        style.stem_of(first, f"curves-{first.stage}"),
        f"Learning curves: {first.stage} {first.method}",
        f"Training and validation loss over epochs, {len(kept)} runs; the training loss ends at "
        f"{last:.3g} on average.",
        f"{style.title_of(first)}. One line a run (fold and seed). Validation cells come from "
        "training specimens; some folds have none.",
    )
    return [picture]


def latent_maps(run: Run, latents: LatentMap) -> style.Picture:
    """Latents of one fold's test cells by PCA and t-SNE, coloured by pattern and by specimen."""

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(2, 2)
        for row, (name, columns) in enumerate((("PCA", (0, 1)), ("t-SNE", (2, 3)))):
            places = latents.places[:, columns]
            _scatter(grid[row, 0], places, latents.targets, run.classes)
            _scatter(grid[row, 1], places, latents.specimens, np.unique(latents.specimens).tolist())
            grid[row, 0].set_ylabel(name)
        grid[0, 0].set_title("by pattern")
        grid[0, 1].set_title("by specimen")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, map(style.plain_name, labels), loc="outside lower center", ncols=3,
                      markerscale=2, fontsize=8)  # fmt: skip

    specimens = len(np.unique(latents.specimens))
    return style.make_picture(
        draw,
        (style.WIDTH, 6.0),
        f"{run.method}, fold {run.fold}: {style.title_of(run)}",
        style.stem_of(run, "latents"),
        f"What the encoder {run.method} sees",
        f"Four scatter plots of {len(latents.places)} test cells: principal components and t-SNE "
        f"of their latents, by {len(run.classes)} patterns and by {specimens} specimens.",
        f"{style.title_of(run)}. Test cells of fold {run.fold}, latents of its encoder; "
        f"{style.held_out_words(run)}. Groups by specimen rather than by pattern mean that the "
        "latents tell stain and focus; every specimen has a colour and a mark. In t-SNE distances "
        "between groups mean nothing.",
    )


def _scatter(axes: "Axes", places: FloatArray, names: StringArray, order: Sequence[str]) -> None:
    for name, (colour, marker) in zip(order, style.styles(len(order)), strict=True):
        members = names == name
        # As pixels: thousands of marks would make the page heavy.
        axes.scatter(places[members, 0], places[members, 1], s=6, c=colour, marker=marker,
                     alpha=0.75, linewidths=0, label=name, rasterized=True)  # fmt: skip
    axes.set(xticks=[], yticks=[])
