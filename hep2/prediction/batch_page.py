"""The page of a batch: specimens, those that need an eye first on top, and what they rest on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hep2.calls.answer import Call
from hep2.data.patterns import PatternName, PatternNames
from hep2.evaluation.formats import render
from hep2.evaluation.plots.style import data_uri, png_uri
from hep2.files import write_atomic
from hep2.prediction.calls import Opinion
from hep2.prediction.gathered import WHITEST, Named, Shown, ShownField, Specimen
from hep2.prediction.models import Ensemble
from hep2.prediction.nearest import TrainingCells, training_cells

# Okabe and Ito's colours for colour-blind eyes, those that stand out on grey; beyond them they are
# used again, and the letters inside the outlines tell patterns apart.
COLOURS = ("#e69f00", "#56b4e9", "#00c896", "#f0e442", "#5c9cff", "#ff7a33", "#e58fc0")


@dataclass(frozen=True)
class Pattern:
    """How the page writes a pattern."""

    letter: str
    name: str  # the data set's own
    icap: PatternName | None
    colour: str


@dataclass(frozen=True)
class Bar:
    """A pattern's part in a specimen, in per cent."""

    pattern: Pattern
    mean: float  # mean probability
    share: float  # of its cells
    low: float  # of the share, the ends of Wilson's 95 % interval over cells
    high: float


@dataclass(frozen=True)
class Picture:
    """A cell in a strip."""

    name: str
    words: str  # all that is said of it
    brief: str  # what its strip does not say already
    uri: str
    error: str  # the picture of its error, or ""
    near: list[tuple[str, str]]  # of the nearest training cells what they are, and the picture


@dataclass(frozen=True)
class Outline:
    """A cell in a field."""

    points: str
    words: str
    colour: str
    kind: str  # the class in the style: like, unlike, none
    letter: str
    x: int  # of the letter
    y: int


@dataclass(frozen=True)
class Field:
    """A field with its outlines."""

    name: str
    uri: str
    width: int
    height: int
    outlines: list[Outline]
    words: str


@dataclass(frozen=True)
class Card:
    """What the page shows of a specimen."""

    name: str
    opinion: Opinion
    main: Pattern | None
    bars: list[Bar]
    without: list[str]
    fields: int
    strips: list[tuple[str, list[Picture]]]
    field: Field | None


def write_page(
    path: Path,
    said: Sequence[tuple[Specimen, Opinion]],
    ensemble: Ensemble,
    known: PatternNames,
    nearest: int = 0,
) -> None:
    """Write the page as one file that loads nothing from elsewhere.

    `said` are the specimens and what is said of them, `nearest` is how many training cells stand
    beside each cell that is doubtful.

    Raises:
        HEp2Error: the file cannot be written.
    """
    patterns = [
        Pattern(_letter(place), name, known.get(name), COLOURS[place % len(COLOURS)])
        for place, name in enumerate(ensemble.classes)
    ]
    found = training_cells(ensemble) if nearest else ""
    beside = _Beside(found, nearest) if isinstance(found, TrainingCells) else None
    cards = [_card(*one, patterns, beside) for one in said]
    cards.sort(key=lambda card: (card.opinion.urgency, card.name))
    page = render(
        "batch.html.j2",
        name=path.stem,
        cards=cards,
        patterns=patterns,
        ensemble=ensemble,
        run=ensemble.runs[0].parents[1].name,
        whitest=WHITEST,
        own=_own(ensemble),
        beside=beside,
        no_neighbours=found if isinstance(found, str) else "",
    )
    write_atomic(path, page)


@dataclass(frozen=True)
class _Beside:
    """The training cells that stand beside a doubtful one."""

    training: TrainingCells
    count: int

    def pictures(self, shown: Shown) -> list[tuple[str, str]]:
        return [
            (f"{one.label}, {one.specimen or 'specimen unknown'}", png_uri(one.image))
            for one in self.training.nearest(shown.image, self.count)
        ]


def _own(ensemble: Ensemble) -> list[str]:
    """The patterns for which sets of cells keep their promise by themselves."""
    if (known := ensemble.calibration) is None:
        return []
    return [name for name, own in zip(ensemble.classes, known.limits[0].own, strict=True) if own]


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _card(
    specimen: Specimen, found: Opinion, patterns: Sequence[Pattern], beside: _Beside | None
) -> Card:
    call = found.call
    order = sorted(range(len(patterns)), key=lambda one: (-found.mean[one], one))
    parts = (call.shares, call.lows, call.highs)
    bars = [
        Bar(
            patterns[one], 100 * float(found.mean[one]), *(100 * float(part[one]) for part in parts)
        )
        for one in order
    ]
    without = [f"{count} {reason}" for reason, count in specimen.without.most_common()]
    return Card(
        name=specimen.name,
        opinion=found,
        main=None if call.pattern is None else patterns[call.pattern],
        bars=bars,
        without=without,
        fields=specimen.fields,
        strips=_strips(specimen, call, patterns, beside),
        field=_field(specimen.picture, patterns) if specimen.picture else None,
    )


def _strips(
    specimen: Specimen, call: Call, patterns: Sequence[Pattern], beside: _Beside | None
) -> list[tuple[str, list[Picture]]]:
    """Cells of the main pattern, of the commonest other one, and cells unlike training."""
    ranked = sorted(specimen.typical, key=lambda one: (one != call.pattern, -call.shares[one]))
    strips = [("Unlike the training cells", specimen.unlike.cells(), beside)]
    for one in ranked[1::-1]:
        typical = one == call.pattern
        title = (
            f"Typical: called {patterns[one].name}" if typical else f"Called {patterns[one].name}"
        )
        strips.insert(0, (title, specimen.typical[one].cells(), None if typical else beside))
    short = specimen.fields == 1  # its name stands below it
    return [
        (title, [_cell(one, patterns, short, near) for one in cells])
        for title, cells, near in strips
        if cells
    ]


def _cell(
    shown: Shown, patterns: Sequence[Pattern], short: bool, beside: _Beside | None
) -> Picture:
    words = _words(shown.cell, patterns)
    return Picture(
        name=f"#{shown.cell.id.rpartition('#')[2]}" if short else shown.cell.id,
        words=words,
        brief=words if shown.cell.unlike else f"{100 * shown.cell.probability:.0f} %",
        uri=png_uri(shown.image),
        error="" if shown.error is None else png_uri(shown.error),
        near=beside.pictures(shown) if beside else [],
    )


def _words(cell: Named, patterns: Sequence[Pattern]) -> str:
    words = f"{patterns[cell.output].name} {100 * cell.probability:.0f} %"
    return f"{words}, unlike: {cell.novelty:.1f} times" if cell.unlike else words


def _field(shown: ShownField, patterns: Sequence[Pattern]) -> Field:
    outlines = []
    for cell, named in shown.cells:
        right, top = int(cell.outline[:, 0].max()), int(cell.outline[:, 1].min())
        words = _words(named, patterns) if named else cell.problem
        pattern = patterns[named.output] if named else None
        outlines.append(
            Outline(
                points=" ".join(f"{across},{down}" for across, down in cell.outline.tolist()),
                words=f"{cell.label}: {words}",
                colour=pattern.colour if pattern else "#ffffff",
                kind="none" if not named else "unlike" if named.unlike else "like",
                letter=pattern.letter if pattern else "",
                x=right,
                y=top,
            )
        )
    counts = [
        f"{count} {pattern.name}"
        for place, pattern in enumerate(patterns)
        if (count := sum(named is not None and named.output == place for _, named in shown.cells))
    ]
    without = sum(named is None for _, named in shown.cells)
    words = ", ".join([*counts, *([f"{without} without a call"] if without else [])])
    uri = data_uri("jpeg", shown.jpeg)
    return Field(shown.id, uri, shown.width, shown.height, outlines, words)
