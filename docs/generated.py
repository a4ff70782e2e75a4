"""Pages that are made of other files: the settings of `conf/`, and the published scores.

    python docs/generated.py settings
    python docs/generated.py published

prints one as Markdown. Nothing that is made here is committed.
"""

import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from hep2.programs.commented import Page, Setting, read_page

ROOT = Path(__file__).parents[1]
GROUPS = {  # folders of conf/ in the order of a reader, with what they choose
    "experiment": "one row of the table: it sets the groups below",
    "data": "where the cells come from",
    "protocol": "which cells a fold trains on and tests",
    "stage": "what is trained",
    "stage/calibration": "what stages start from that are calibrated",
    "model": "the network",
    "augment": "how cells are varied in training",
    "features": "what turns a cell into a vector",
    "head": "what names the pattern",
    "tuning": "settings to choose on inner folds",
    "trainer": "Lightning's Trainer: devices, precision",
    "callbacks": "beside a training",
    "logger": "where figures and pictures go",
    "hydra/launcher": "how the jobs of a sweep are run",
    "debug": "for a first try",
}


def settings(root: Path) -> str:
    """The reference of all settings: `conf/train.yaml`, its groups, `conf/evaluate.yaml`."""
    conf, parts = root / "conf", list[str]()
    parts += _section("## The top level of `train.py`", "", read_page(_read(conf / "train.yaml")))
    for group, what in GROUPS.items():
        parts.append(f"## `{group}`\n\n`{group}=...`: {what}.")
        apart = [conf / other for other in GROUPS if other.startswith(f"{group}/")]
        files = sorted(f for f in (conf / group).rglob("*.yaml") if f.parent not in apart)
        pages = {file.relative_to(conf / group).with_suffix("").as_posix(): file for file in files}
        if group == "experiment":
            parts.append(_experiments({name: read_page(_read(f)) for name, f in pages.items()}))
            continue
        for name, file in pages.items():
            inner = group.replace("/", ".")
            parts += _section(f"### `{group}={name}`", f"{inner}.", read_page(_read(file)))
    evaluate = read_page(_read(conf / "evaluate.yaml"))
    parts += _section("## The settings of `evaluate.py`", "", evaluate)
    return "\n\n".join(parts)


def _section(heading: str, prefix: str, page: Page) -> Iterator[str]:
    yield heading
    yield from _paragraphs(page.head)
    others = [name for name in page.starts_from if re.fullmatch(r"\w+", name) and name != "_self_"]
    if others and prefix:
        group = prefix.rstrip(".").replace(".", "/")
        yield "As " + " and ".join(f"`{group}={name}`" for name in others) + ", but:"
    inner = "" if page.everywhere else prefix
    rows = [f"| `{inner}{one.key}` | {_code(one.value)} | {_meaning(one)} |"
            for one in page.settings if one.value or one.note or one.above]  # fmt: skip
    if rows:
        yield "\n".join(["| setting | value | |", "|---|---|---|", *rows])


def _meaning(setting: Setting) -> str:
    above = re.split(r" (?=task=)", " ".join(setting.above))
    return "<br>".join(_prose(text) for text in (setting.note, *above) if text)


def _command(line: str) -> bool:
    """Whether a line of a comment is one of a shell's, which is set in."""
    return re.match(r" +(python|srun|#)", line) is not None


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """The comment at a file's head: a new paragraph at `Word: ...`, commands as they are."""
    for is_command, some in groupby(lines, _command):
        if is_command:
            yield "\n".join(["```sh", *(line.strip() for line in some), "```"])
            continue
        text = "\n".join(line.strip() for line in some if line)
        for paragraph in re.split(r"\n(?=[A-Z]\w+: )", text):
            yield _prose(paragraph)


def _experiments(pages: dict[str, Page]) -> str:
    heads = {
        name: [line for line in page.head if not _command(line)] for name, page in pages.items()
    }
    rows = [f"| `{name}` | {_prose(' '.join(head))} |" for name, head in heads.items()]
    return "\n".join(["| `experiment=` | what it is |", "|---|---|", *rows])


def published(root: Path) -> str:
    """The published scores, a table for each data set and protocol: never two in one."""
    from hep2.evaluation.published import ROWS

    titles = "| method | features | metric | % | source | remark |\n|---|---|---|---|---|---|"
    tables: dict[str, list[str]] = {}
    for row in ROWS:
        lines = tables.setdefault(f"### {row.data}, protocol {row.marked_protocol}\n", [titles])
        cells = (row.method, row.features, row.metric, f"{row.value:g}", row.source, row.remark)
        lines.append(f"| {' | '.join(map(_prose, cells))} |")
    return "\n\n".join("\n".join([heading, *lines]) for heading, lines in tables.items())


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|") if text else ""


def _prose(text: str) -> str:
    """A comment as Markdown: what stands in backticks stays, all else is taken as it is written."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_\[\]<>$|{}~])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


PARTS = {"settings": settings, "published": published}

if __name__ == "__main__":
    print(PARTS[sys.argv[1]](ROOT))
