"""Files of conf/ with their comments, which a YAML reader drops."""

import re
from dataclasses import dataclass, field

_KEY = re.compile(  # a hash begins a comment behind a space, and outside of quotes
    r"(?P<indent> *)(?P<key>[\w./]+):"
    r"(?: +(?! )(?P<value>(?:\"[^\"]*\"|'[^']*'|[^#\"']|(?<=\S)[#\"'])+?))?"
    r"(?: +# ?(?P<note>.*))? *"
)


@dataclass
class Setting:
    """One key of a YAML file, with what its comments say."""

    key: str  # dotted
    value: str  # as written; "" where settings stand below it
    note: str = ""  # on its line, and where that is continued
    above: list[str] = field(default_factory=list)


@dataclass
class Page:
    """A YAML file of `conf/`: the comment at its head, what it starts from, its settings."""

    everywhere: bool  # whether its keys are those of the top level
    head: list[str]
    starts_from: list[str]
    settings: list[Setting]


def read_page(text: str) -> Page:
    """Read a YAML file by its lines.

    A comment belongs to the key on its line, or to the one below it; one that continues another is
    set in as far. Blocks of text and the node `hydra` are left out.
    """
    lines = text.splitlines()
    everywhere = lines[:1] == ["# @package _global_"]
    lines, head = lines[everywhere:], list[str]()
    while lines and lines[0].startswith("#"):
        head.append(lines.pop(0).removeprefix("#").removeprefix(" "))
    starts_from, settings, above = list[str](), list[Setting](), list[str]()
    parents = list[tuple[int, str]]()  # with their indentation
    column = 0  # where the comment of the last key began
    for line in lines:
        if line.lstrip().startswith("#"):
            note = line.lstrip(" #")
            if line.index("#") == column > 0:
                settings[-1].note += f" {note}"
            else:
                above.append(note)
        elif line.lstrip().startswith("- "):
            starts_from.append(line.split("#")[0].strip(" -"))
        elif found := _KEY.fullmatch(line):
            indent, key = len(found["indent"]), found["key"]
            parents = [*(one for one in parents if one[0] < indent), (indent, key)]
            value, note = found["value"] or "", found["note"] or ""
            if parents[0][1] not in ("hydra", "defaults"):
                path = ".".join(name for _, name in parents)
                settings.append(Setting(path, value, note, above))
                above, column = [], line.index("# ") if note else 0
    return Page(everywhere, head, starts_from, settings)
