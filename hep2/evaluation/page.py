"""What a page shows: for each data set and protocol its tables and pictures, in their order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hep2.evaluation import published, tables
from hep2.evaluation.formats import NOTHING, Table
from hep2.evaluation.leak import LeakGap
from hep2.evaluation.plots import cells, confusion, methods, networks
from hep2.evaluation.plots.style import Picture, plain_name
from hep2.evaluation.published import PAPER_CLASSES
from hep2.evaluation.results import Result, compare_with_first
from hep2.files import watched
from hep2.rundir.artifacts import latents_of, reconstructions_of
from hep2.rundir.result import Run, data_label, protocol_label

PROTOCOLS = {
    "published": "The data set's two pools share no specimen. In every fold the method learns from "
    "a random half of the training pool and is tested on a random half of the test pool, as in "
    "the paper; folds therefore overlap.",
    "specimen": "Whole specimens are held out, every pattern spread over the folds. No specimen is "
    "on both sides, and every cell is tested once.",
    "loso": "One specimen is held out at a time. No specimen is on both sides, and every cell is "
    "tested once.",
    "random": "LEAKY: cells are dealt out at random, so that cells of one specimen, cut from one "
    "image, stand on both sides. The figures tell how well known specimens are recognised again, "
    "not how well new ones are diagnosed. They are here to be compared with papers that split so.",
    "public_split": "LEAKY: the fixed split that a public copy of the data is published with. It "
    "was drawn over cells, so that cells of one specimen stand on both sides.",
}


@dataclass(frozen=True)
class Method:
    """What the page shows of one method."""

    name: str
    pictures: list[Picture]
    mistakes: Table | None


@dataclass(frozen=True)
class Block:
    """What the page shows of one data set under one protocol."""

    title: str
    words: str
    ranking: Picture
    tables: list[Table]
    comparisons: Table | None
    beside: Table | None
    methods: list[Method]
    encoders: list[Picture]
    curves: list[Picture]

    @property
    def all_tables(self) -> list[Table]:
        """Those for terminal and paper: all but the mistakes of each method."""
        return [*self.tables, *(table for table in (self.comparisons, self.beside) if table)]

    @property
    def pictures(self) -> list[Picture]:
        """All of them, the most important first."""
        firsts = [p for method in self.methods[:1] for p in method.pictures]
        others = [p for method in self.methods[1:] for p in method.pictures]
        return [self.ranking, *firsts, *self.encoders, *self.curves, *others]


@dataclass
class Page:
    """Everything that the template fills in."""

    name: str
    synthetic: str
    blocks: list[Block]
    leaks: list[Table]
    clusters: list[Table]
    audits: Table
    elsewhere: Table
    provenance: list[Table]
    remark: str
    paper: list[Picture] = field(default_factory=list)

    @property
    def results(self) -> list[Table]:
        """Every table of figures that were computed here, and of published ones beside them."""
        blocks = [table for block in self.blocks for table in block.all_tables]
        return [*blocks, *self.leaks, *self.clusters]

    @property
    def pictures(self) -> list[Picture]:
        """Every picture once, the most important first."""
        return [*self.paper, *(p for block in self.blocks for p in block.pictures)]


def make_page(
    name: str,
    runs: Sequence[Run],
    blocks: Sequence[list[Result]],
    gaps: Sequence[LeakGap],
    clusters: Sequence[Table] = (),
) -> Page:
    """Draw all pictures and set all tables of a page.

    Args:
        name: of the runs.
        runs: all finished ones.
        blocks: ranked results, one list for each data set and protocol.
        gaps: what leaks are worth.
        clusters: tables of unsupervised runs.
    """
    firsts = [block[0].group.first for block in blocks]
    beside = [row for run in firsts for row in published.beside(run.data, run.protocol)]
    others = [row for row in published.ROWS if row not in beside]
    caption = "published figures of ANOTHER data set or protocol: not comparable with those above"
    by_data = [[g for g in gaps if g.group.first.data == data] for data in _data_of(gaps)]
    return Page(
        name=name,
        synthetic=tables.synthetic_words(runs),
        blocks=[_block(results, runs) for results in blocks],
        leaks=[tables.leaks(part) for part in by_data],
        clusters=list(clusters),
        audits=tables.audits(runs),
        elsewhere=tables.published(caption, others),
        provenance=[tables.origins(runs), tables.commands(runs)],
        remark=published.paper_statement(),
        paper=[confusion.paper_picture()]
        if any(r.classes == PAPER_CLASSES for r in firsts)
        else [],
    )


def _block(results: list[Result], runs: Sequence[Run]) -> Block:
    run = results[0].group.first
    beside = published.beside(run.data, run.protocol)
    pairs = compare_with_first(results)
    here = [r for r in runs if (r.data, r.protocol) == (run.data, run.protocol)]
    caption = f"published figures: {run.data}, protocol {protocol_label(run)}"
    return Block(
        title=f"{data_label(run)}, protocol {protocol_label(run)}",
        words=PROTOCOLS.get(run.protocol, ""),
        ranking=methods.ranking(results, beside),
        tables=[tables.over_folds(results), tables.pooled(results), tables.recalls(results),
                tables.further(results)],
        comparisons=tables.comparisons(run, pairs) if pairs else None,
        beside=tables.published(caption, beside) if beside else None,
        methods=[method_shown(result) for result in watched(results, "pictures")],
        encoders=encoder_pictures(here),
        curves=_curves(here),
    )  # fmt: skip


def method_shown(result: Result) -> Method:
    """The pictures of one method, and its most confident mistakes."""
    shown = [confusion.confusion_picture(result), methods.specimen_strips(result)]
    shown.append(methods.reliability(result))
    sheet = cells.confident_mistakes(result)
    if sheet is None:
        return Method(result.method, [p for p in shown if p], None)
    shown.append(cells.mistake_gallery(result, sheet))
    run = result.group.first
    table = Table(
        tables.caption(run, f"the most confident mistakes of {result.method}"),
        ["cell", "specimen", "target", "output", "confidence %"],
        [
            [
                str(cell["id"]),
                str(cell["specimen"]) or NOTHING,
                plain_name(str(cell["target"])),
                plain_name(str(cell["output"])),
                f"{100 * float(cell['confidence']):.2f}",
            ]
            for cell in sheet.cells
        ],
    )
    return Method(result.method, [p for p in shown if p], table)


def encoder_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Reconstructions and latents of each encoder, of its first fold that kept some."""
    shown: list[Picture] = []
    drawn: set[tuple[str, str]] = set()
    for run in sorted(runs, key=lambda run: (run.method, run.fold, run.seed)):
        sheet, latents = reconstructions_of(run), latents_of(run)
        if sheet and ("sheet", run.method) not in drawn:
            drawn.add(("sheet", run.method))
            shown.append(cells.reconstruction_sheet(run, sheet))
        if latents and ("map", run.method) not in drawn:
            drawn.add(("map", run.method))
            shown.append(networks.latent_maps(run, latents))
    return shown


def _curves(runs: Sequence[Run]) -> list[Picture]:
    kinds = dict.fromkeys((run.stage, run.method) for run in runs)
    drawn = (networks.learning_curves([r for r in runs if (r.stage, r.method) == k]) for k in kinds)
    return [picture for picture in drawn if picture]


def _data_of(gaps: Iterable[LeakGap]) -> list[str]:
    return list(dict.fromkeys(gap.group.first.data for gap in gaps))
