"""The schemas of conf/: every file of it is right by them, and a misspelt setting is not."""

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from conftest import CONF

from hep2.programs import console, schema
from hep2.programs.commented import read_page

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def made() -> dict:
    return schema.schemas([CONF])


def faults(made: dict, name: str, content: object) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(made[name]).iter_errors(content)]


FILES = [file for file in sorted(CONF.rglob("*.yaml")) if "hydra" not in file.parts]
OTHER = ("evaluate.yaml", "search.yaml", "sweep_bayes.yaml")  # no settings of train.py


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.name not in OTHER], ids=lambda f: f"{f.parent.name}-{f.stem}"
)
def test_every_file_is_right(made: dict, file: Path) -> None:
    group = file.parent.relative_to(CONF).as_posix()
    whole = group == "." or group.startswith(("experiment", "debug"))
    assert faults(made, "train" if whole else group, yaml.safe_load(file.read_text())) == []


@pytest.mark.parametrize(
    "name, content",
    [
        ("stage", {"epoch": 3}),
        ("stage", {"epochs": "many"}),
        ("stage", {"calibration": {"alpah": [0.2]}}),
        ("stage", {"optimizer": {"rate": 1e-3}}),
        ("model", {"network": {"width": [4]}}),
        ("augment", {"flips": 3}),
        ("train", {"flod": 1}),
        ("train", {"stage": {"epoch": 3}}),
        ("train", {"defaults": [{"override /head": "mpl"}]}),
    ],
)
def test_what_is_misspelt_is_not(made: dict, name: str, content: dict) -> None:
    assert faults(made, name, content)


def test_what_comes_into_an_option_from_a_group_within_its_own_is_right(made: dict) -> None:
    mine = {"defaults": [{"calibration": "calls"}, "_self_"], "calibration": {"alpha": [0.2]}}
    assert faults(made, "stage", mine) == []
    known = made["stage"]["properties"]["calibration"]["anyOf"][0]["properties"]
    assert "how often" in known["alpha"]["description"]


def test_what_only_a_constructor_takes_is_right(made: dict) -> None:
    assert faults(made, "head", {"batch_norm": False, "widths": [3]}) == []
    assert faults(made, "stage", {"epochs": "${other}", "optimizer": {"lr": 1}}) == []
    assert made["stage"]["properties"]["batch_size"]["description"] == "over all devices"


def test_comments_of_more_than_a_line_are_told(made: dict) -> None:
    """As the page of all settings has them: those above a setting, and those that go on below."""
    said = made["stage"]["properties"]["choose_by"]["description"]
    assert said.startswith("of validation cells") and said.endswith("choose the first epochs")
    assert made["trainer"]["properties"]["precision"]["description"].startswith("bf16-mixed where")


def test_what_stands_in_quotes_is_no_comment() -> None:
    text = """\
        # what it is

        a: "one # two"  # why
        b:
            c: it's 3   # of c,
                        # and so on
            d: x#y
        """
    page = read_page(dedent(text))
    assert [(one.key, one.value, one.note) for one in page.settings] == [
        ("a", '"one # two"', "why"),
        ("b", "", ""),
        ("b.c", "it's 3", "of c, and so on"),
        ("b.d", "x#y", ""),
    ]
    assert read_page("").settings == [] and page.head == ["what it is"]


def test_the_command_writes_them_with_a_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "conf" / "head"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("name: mine\ntemperature_of_mine: 2  # warm\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hep2", "schema", "there"])
    console.main()
    told = json.loads(capsys.readouterr().out)["yaml.schemas"]
    assert told["there/train.json"] == ["conf/train.yaml", "conf/experiment/**/*.yaml"]
    head = json.loads(Path("there/head.json").read_text())
    assert head["properties"]["temperature_of_mine"]["description"] == "warm"
    assert faults({"head": head}, "head", {"name": "x", "temperature_of_mine": 1.5}) == []
