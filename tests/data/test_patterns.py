"""ICAP's names stand beside those of the data sets, whatever their spelling, or there are none."""

from pathlib import Path

import pytest

from hep2.data.mivia import CLASSES
from hep2.data.patterns import PatternName, pattern_names
from hep2.data.sources import I3A_CLASSES, PAPER_CLASSES
from hep2.errors import HEp2Error


def test_the_sets_that_are_known() -> None:
    names = pattern_names()
    assert [names.codes(label) for label in I3A_CLASSES] == [
        "AC-1", "AC-4 or AC-5", "AC-8 or AC-9 or AC-10", "AC-3", "AC-11 or AC-12", "AC-22",
    ]  # fmt: skip
    assert [names.codes(label) for label in PAPER_CLASSES] == [
        "AC-1", "AC-5", "AC-4", "AC-8 or AC-9 or AC-10", "AC-3",
    ]  # fmt: skip
    assert all(names.codes(label) for label in CLASSES if "cytoplasm" not in label)


def test_a_class_of_two_patterns_says_so() -> None:
    speckled = pattern_names().get("Speckled")
    assert speckled is not None
    assert speckled.codes == ("AC-4", "AC-5")
    assert "two ICAP patterns in one class" in speckled.note


def test_spelling_does_not_matter_and_the_unknown_has_none() -> None:
    names = pattern_names()
    assert names.codes("Coarse Speckled") == names.codes("coarse-speckled pattern") == "AC-5"
    assert names.get("my own") is None
    assert names.codes("my own") == ""


def test_ones_own_go_before(tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text("golgi: {codes: [], name: none of ICAP's}\nclass 7: {codes: [AC-7], name: x}\n")
    names = pattern_names(str(file))
    assert names.get("Golgi") == PatternName((), "none of ICAP's", "")
    assert names.codes("class 7") == "AC-7"
    assert names.codes("Homogeneous") == "AC-1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "names no pattern: write <pattern>: {codes:"),
        ("- a\n- b\n", "names no pattern"),
        ("golgi: AC-22", "golgi is not of the right form"),
        ("golgi: {codes: [AC-22]}", "golgi is not of the right form"),
        ("golgi: {codes: [AC-22], name: x, colour: red}", "golgi is not of the right form"),
        ("golgi: {codes: AC-22, name: x}", "golgi: codes must be a list of ICAP's"),
        ("golgi: {codes: [22], name: x}", "golgi: codes must be a list of ICAP's"),
        ("golgi: {codes: [AC-22], name: [x]}", "golgi: name must be a text"),
        (f"golgi: {{codes: [AC-22], name: {'x' * 300}}}", "name must be a text of at most 200"),
        ("golgi: {codes: [AC-22], name: x}\nGolgi: {codes: [AC-1], name: y}", "are one pattern"),
        ("golgi: {codes: [AC-22], name: x}\ngolgi: {codes: [AC-1], name: y}", "cannot be read"),
        ("golgi: {codes: [AC-22", "cannot be read as YAML"),
    ],
)
def test_a_bad_mapping_is_one_sentence(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text(content)
    with pytest.raises(HEp2Error) as caught:
        pattern_names(str(file))
    assert said in str(caught.value) and str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_mapping(tmp_path: Path) -> None:
    with pytest.raises(HEp2Error, match=r"names=.*none\.yaml: no such file"):
        pattern_names(str(tmp_path / "none.yaml"))
