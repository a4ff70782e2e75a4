"""One picture of a report: drawn once, written as PNG and SVG, and inlined into the page.

Pictures are drawn without a display and without pyplot. In the page they follow the reader's light
or dark scheme: ink is `currentColor`, which a style sheet inside the SVG sets.
"""

import base64
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from hep2.data.opencv import cv2
from hep2.rundir.result import Run, data_label, protocol_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 200
WIDTH = 5.2  # inches: on a telephone text of 9 points is then still legible
_TITLE = 64  # letters in a line of a title
INK, FAINT = "#0b0c0d", "#7f7f7f"  # grey of contrast 4 : 1 on white, and 4.6 : 1 on the dark page
# Okabe and Ito, Color universal design (2008), without the yellow that white swallows; the
# markers say the same to whoever sees no colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DARK = "@media(prefers-color-scheme:dark){:root{color:#e6e8ec}}"
_SCHEME = f"<style>:root{{color:#16181d}}{_DARK}</style>"
_SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "svg.hashsalt": "hep2",  # the same picture makes the same file
    "text.parse_math": False,  # a class may be called $x$
    **{f"{name}.color": INK for name in ("text", "xtick", "ytick")},
    **{f"axes.{name}": INK for name in ("labelcolor", "edgecolor", "titlecolor")},
}


@dataclass(frozen=True)
class Picture:
    """A picture with everything that a page says of it."""

    stem: str  # its file's name without suffix
    heading: str
    alt: str  # what it shows, in a sentence, for who cannot see it
    caption: str  # how to read it, with data set and protocol
    png: bytes  # for slides
    drawn: "Figure" = field(repr=False, compare=False)

    @cached_property
    def svg(self) -> bytes:
        """For papers and pages; drawn when it is asked for, as a dashboard takes the PNG alone."""
        import matplotlib

        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.drawn.patch.set_alpha(0)
        with matplotlib.rc_context(cast(Any, _SETTINGS)):
            self.drawn.savefig(svg := io.BytesIO(), format="svg", metadata=nothing)
        return svg.getvalue()

    @property
    def kind(self) -> str:
        """The first word of its stem, e.g. `ranking`."""
        return self.stem.split("-")[0]

    @property
    def uri(self) -> str:
        """The SVG as a data URI whose ink follows the reader's colour scheme."""
        svg = self.svg.decode().replace(INK, "currentColor")
        start = svg.index(">", svg.index("<svg")) + 1
        return data_uri("svg+xml", f"{svg[:start]}{_SCHEME}{svg[start:]}".encode())


def make_picture(
    draw: Callable[["Figure"], None],
    size: tuple[float, float],
    title: str,
    stem: str,
    heading: str,
    alt: str,
    caption: str,
) -> Picture:
    """Draw a figure of a size in inches, on a page no wider than WIDTH, under its title."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(cast(Any, _SETTINGS)):
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained")
        draw(figure)
        if title:
            figure.suptitle(textwrap.fill(title, _TITLE), fontsize=9)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        figure.savefig(png := io.BytesIO(), format="png", metadata={"Software": None})
    return Picture(stem, heading, alt, caption, png.getvalue(), figure)


def title_of(run: Run) -> str:
    """The data set and the protocol of a picture, as its title says them."""
    kind = "SYNTHETIC cells" if run.synthetic else "cells"
    data = "" if run.synthetic and run.data == "synthetic" else f" of {run.data}"
    return f"{kind}{data}, protocol {protocol_label(run)}{', LEAKY' if run.leaky else ''}"


def held_out_words(run: Run) -> str:
    """What an autoencoder had not seen of its test cells."""
    leak = "it learned from other cells of their specimens"
    return leak if run.leaky else "it never saw them or their specimens"


def plain_name(name: str) -> str:
    """A class's name as a label: words instead of underscores."""
    return name.replace("_", " ")


def styles(count: int) -> list[tuple[str, str]]:
    """A colour and a marker for each of this many things; pairs repeat only after 49."""
    marks, colours = len(MARKERS), len(COLOURS)
    return [(COLOURS[i % colours], MARKERS[(i + i // colours) % marks]) for i in range(count)]


def percent_axis(axes: "Axes", values: Sequence[float]) -> None:
    """The x axis in per cent with a faint grid, from a round number below all values to 100."""
    low = min([*values, 0.9])
    axes.set_xlim(max(0.0, 10 * (100 * low // 10) - 2), 101.5)
    axes.grid(axis="x", color=FAINT, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)


def stem_of(run: Run, what: str) -> str:
    """The name of a picture's file."""
    return f"{what}-{data_label(run)}-{protocol_label(run)}-{run.method}"


def png_uri(grey: NDArray[np.uint8]) -> str:
    """An image, (H, W), for a page."""
    return data_uri("png", cv2.imencode(".png", grey)[1].tobytes())


def data_uri(kind: str, content: bytes) -> str:
    """A picture for a page, which loads nothing from elsewhere."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
