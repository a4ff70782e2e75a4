"""What the README and `docs/` say is there: files, settings, commands, sentences."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONF, ROOT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import evaluate  # noqa: F401, registers the schema of its settings
from docs.generated import GROUPS, PARTS
from hep2.programs.commented import read_page

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
YAML = sorted(
    file for file in CONF.rglob("*.yaml") if file.name not in ("search.yaml", "sweep_bayes.yaml")
)


def commands(program: str) -> list[list[str]]:
    """The words after `python <program>` in the blocks of all pages."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:2] == ["python", program] or words[1:3] == ["python", program]:
                    found.append(words[words.index(program) + 1 :])
    return found


def one_job(words: list[str]) -> list[str]:
    """The first job of a sweep."""
    parser = OverridesParser.create()
    overrides = parser.parse_overrides([word for word in words if word != "-m"])
    return [
        f"{one.get_key_element()}={next(one.sweep_string_iterator())}"
        if one.is_sweep_override()
        else str(one.input_line)
        for one in overrides
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda file: file.stem
)
def test_links_of_notebooks_lead_somewhere(notebook: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", notebook.read_text("utf-8"))
    assert links and not [link for link in links if not (notebook.parent / link).exists()]


@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_hydra_takes_every_command(program: str) -> None:
    found = commands(f"{program}.py")
    assert len(found) > 5
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for words in map(list, sorted(set(map(tuple, found)))):
            compose(program, one_job(words))


def test_make_knows_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.M):
            assert f"\n{target}:" in makefile, f"{page.name}: make {target}"


def test_every_sentence_is_still_said() -> None:
    code = "\n".join(file.read_text("utf-8") for file in (ROOT / "hep2").rglob("*.py"))
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    sentences = re.findall(r"^`(.+)`\n: ", page, re.M)
    assert len(sentences) > 5
    assert not [sentence for sentence in sentences if sentence not in code]


def keys(node: object, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a YAML file as a YAML reader sees them, those of `{...}` left out."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from keys(value, f"{prefix}{key}.")


@pytest.mark.parametrize("file", YAML, ids=lambda file: file.relative_to(CONF).as_posix())
def test_the_reference_has_every_setting(file: Path) -> None:
    loaded = OmegaConf.to_container(OmegaConf.load(file))
    page = read_page(file.read_text("utf-8"))
    known = {key for key in keys(loaded) if key.split(".")[0] not in ("defaults", "hydra")}
    read = {setting.key for setting in page.settings}
    inline = {key for key in known - read for setting in page.settings
              if setting.value.startswith("{") and key.startswith(f"{setting.key}.")}  # fmt: skip
    assert read <= known
    assert known - read == inline


def test_the_reference_has_every_group() -> None:
    folders = {file.relative_to(CONF).parent.as_posix() for file in YAML} - {"."}
    known = {group for group in folders for name in GROUPS if f"{group}/".startswith(f"{name}/")}
    assert known == folders


def test_comments_belong_to_their_keys() -> None:
    page = read_page(
        "# What it is.\nname: x\n# above\nwhere:\n  root: null  # told\n"
        "              # and continued\n  size: 3\n"
    )
    assert page.head == ["What it is."]
    assert [(s.key, s.value, s.note, s.above) for s in page.settings] == [
        ("name", "x", "", []),
        ("where", "", "", ["above"]),
        ("where.root", "null", "told and continued", []),
        ("where.size", "3", "", []),
    ]


def test_pages_are_made_of_what_is_there() -> None:
    reference, scores = (PARTS[name](ROOT) for name in ("settings", "published"))
    assert "| `protocol.folds` | `5` |" in reference
    assert "### i3a, protocol random-leaky" in scores
    for page, name in (("settings", "settings"), ("figures", "published")):
        text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
        assert f"<!-- made by docs/generated.py: {name} -->" in text
