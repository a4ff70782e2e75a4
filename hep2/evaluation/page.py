"""What a page shows: for each data set and protocol its tables and pictures, in their order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby

from hep2.data.protocols import BY_POOLS
from hep2.data.sources import PAPER_CLASSES
from hep2.evaluation import provenance, published, specimen_tables, tables
from hep2.evaluation.formats import NOTHING, Table, caption
from hep2.evaluation.leak import LeakGap
from hep2.evaluation.plots import answers, cells, confusion, methods, networks
from hep2.evaluation.plots.style import Picture, plain_name
from hep2.evaluation.results import Result, compare_with_first
from hep2.evaluation.specimens import Answers, answers_of
from hep2.files import progress_bar
from hep2.rundir.artifacts import latents_of, reconstructions_of
from hep2.rundir.result import Run, data_label, protocol_label

PROTOCOLS = {
    "published": "The data set's two pools share no specimen. In every fold the method learns from "
    "a random half of the training pool and is tested on a random half of the test pool, as in "
    "the paper; folds therefore overlap. Encoders, which read no labels, may learn from the whole "
    "training pool.",
    "specimen": "Whole specimens are held out, every pattern spread over the folds. No specimen is "
    "on both sides, and every cell is tested once.",
    "loso": "One specimen is held out at a time. No specimen is on both sides, and every cell is "
    "tested once.",
    "random": "LEAKY: cells are dealt out at random, so that cells of one specimen, cut from one "
    "image, are on both sides. The scores tell how well known specimens are recognised again, "
    "not how well new ones are diagnosed. They are here to be compared with papers that split so.",
    "source": "The method learns from one source, a laboratory or a data set, and is tested on "
    "another. Patterns are matched by name; those that only one of the two has are left out.",
    "pools": "The split that the data set brings, whole: learnt from its training pool, tested on "
    "its test pool.",
}
PROTOCOLS["public_split"] = PROTOCOLS["pools"]
BROUGHT = {  # of a split that the data bring, whether it leaks is for the data to say
    True: " LEAKY: cells of one specimen are on both sides, or may be: specimens are unknown. The "
    "scores tell how well known specimens are recognised again.",
    False: " The two share no specimen.",
}


@dataclass(frozen=True)
class Method:
    """What the page shows of one method."""

    name: str
    pictures: list[Picture]
    mistakes: Table | None
    doubtful: Table | None  # specimens


@dataclass(frozen=True)
class Block:
    """What the page shows of one data set under one protocol."""

    title: str
    words: str
    ranking: list[Picture]  # and what labels are worth, where that was tried
    headline: list[Table]
    details: list[Table]
    specimens: list[Table]  # calibration, and one call a specimen
    comparisons: list[Table]  # one or none, as the next
    published: list[Table]
    methods: list[Method]
    encoders: list[Picture]
    curves: list[Picture]

    @property
    def tables(self) -> list[Table]:
        """Those for terminal and paper: all but the mistakes of each method."""
        return [*self.headline, *self.details, *self.specimens, *self.comparisons,
                *self.published]  # fmt: skip

    @property
    def pictures(self) -> list[Picture]:
        """All of them, the most important first."""
        first, *others = (method.pictures for method in self.methods)
        return [*self.ranking, *first, *self.encoders, *self.curves, *chain(*others)]


@dataclass
class Page:
    """What the template fills in."""

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
        """Every table of metrics that were computed here, and of comparable published ones."""
        return [*chain(*(b.tables for b in self.blocks)), *self.leaks, *self.clusters]

    @property
    def pictures(self) -> list[Picture]:
        """Every picture once, the most important first."""
        return [*self.paper, *chain(*(b.pictures for b in self.blocks))]


def make_page(
    name: str,
    runs: Sequence[Run],
    blocks: Sequence[list[Result]],
    gaps: Sequence[LeakGap],
    clusters: Sequence[Table] = (),
) -> Page:
    """Draw all pictures and set all tables of a page.

    `runs` are all finished ones, `blocks` ranked results, one list for each data set and protocol;
    in `gaps` those of one data set come together; `clusters` are tables of unsupervised runs.
    """
    firsts = [block[0].group.first for block in blocks]
    places = {published.place(run.data, run.protocol) for run in firsts}
    others = [
        row for row in published.ROWS if published.place(row.data, row.protocol) not in places
    ]
    caption = "published scores of ANOTHER data set or protocol: not comparable with those above"
    by_data = groupby(gaps, key=lambda gap: gap.group.first.data)
    like_paper = any(run.classes == PAPER_CLASSES for run in firsts)
    return Page(
        name=name,
        synthetic=provenance.synthetic_words(runs),
        blocks=[_block(results, runs) for results in blocks],
        leaks=[tables.leaks(list(part)) for _, part in by_data],
        clusters=list(clusters),
        audits=provenance.audits(runs),
        elsewhere=tables.published(caption, others),
        provenance=[provenance.origins(runs), provenance.commands(runs)],
        remark=published.PAPER_STATEMENT,
        paper=[confusion.paper_picture()] if like_paper else [],
    )


def _block(results: list[Result], runs: Sequence[Run]) -> Block:
    run = results[0].group.first
    printed = published.published_for(run.data, run.protocol)
    pairs = compare_with_first(results)
    said = [answers_of(result.group) for result in results]
    here = [r for r in runs if (r.data, r.protocol) == (run.data, run.protocol)]
    kinds: dict[tuple[str, str], list[Run]] = {}
    for other in here:
        kinds.setdefault((other.stage, other.method), []).append(other)
    caption = f"published scores: {run.data}, protocol {protocol_label(run)}"
    return Block(
        title=f"{data_label(run)}, protocol {protocol_label(run)}",
        words=protocol_words(run),
        ranking=[methods.ranking(results, printed), *methods.label_efficiency(results)],
        headline=[tables.over_folds(results), tables.pooled(results)],
        details=[tables.recalls(results), tables.secondary(results), *tables.icap(run)],
        specimens=_specimens(results, said),
        comparisons=[tables.comparisons(run, pairs)] if pairs else [],
        published=[tables.published(caption, printed)] if printed else [],
        methods=[
            show_method(*pair)
            for pair in progress_bar(list(zip(results, said, strict=True)), "pictures")
        ],
        encoders=encoder_pictures(here),
        curves=[p for kind in kinds.values() for p in networks.learning_curves(kind)],
    )


def _specimens(results: list[Result], said: list[Answers | None]) -> list[Table]:
    """Calibration, and where specimens are known what is said of them."""
    answered = [(result, one) for result, one in zip(results, said, strict=True) if one]
    shown = [specimen_tables.calibration(results), *specimen_tables.cell_sets(results)]
    if answered:
        shown += [
            specimen_tables.calls(answered),
            specimen_tables.surest(answered),
            *specimen_tables.sets(answered),
            *specimen_tables.rules(answered),
            *specimen_tables.seconds(answered),
        ]
    return shown


def protocol_words(run: Run) -> str:
    """What the protocol of a run guarantees."""
    words = PROTOCOLS.get(run.protocol, "")
    return words + BROUGHT[run.leaky] if run.protocol in BY_POOLS else words


def show_method(result: Result, said: Answers | None) -> Method:
    """The pictures of one method, its most confident mistakes, and specimens in doubt."""
    pictures = [confusion.confusion_picture(result), *methods.specimen_strips(result),
                answers.reliability(result)]  # fmt: skip
    doubtful = None
    if said:
        pictures.append(answers.called_against_error(result, said))
        doubtful = specimen_tables.doubtful(result, said)
    sheet = cells.confident_mistakes(result)
    if not sheet:
        return Method(result.method, pictures, None, doubtful)
    mistakes = Table.of(
        caption(result.group.first, f"the most confident mistakes of {result.method}"),
        sheet.cells,
        {
            "cell": lambda cell: str(cell["id"]),
            "specimen": lambda cell: str(cell["specimen"]) or NOTHING,
            "target": lambda cell: plain_name(str(cell["target"])),
            "output": lambda cell: plain_name(str(cell["output"])),
            "confidence %": lambda cell: f"{100 * float(cell['confidence']):.2f}",
        },
    )
    return Method(
        result.method, [*pictures, cells.mistake_gallery(result, sheet)], mistakes, doubtful
    )


def encoder_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Reconstructions and latents of each encoder, of its first fold that kept some."""
    shown: dict[tuple[str, str], Picture] = {}
    for run in sorted(runs, key=lambda run: (run.method, run.fold, run.seed)):
        sheet, latents = reconstructions_of(run), latents_of(run)
        if sheet and ("sheet", run.method) not in shown:
            shown["sheet", run.method] = cells.reconstruction_sheet(run, sheet)
        if latents and ("map", run.method) not in shown:
            shown["map", run.method] = networks.latent_maps(run, latents)
    return list(shown.values())
