"""One thing under two spellings is refused, or merged; what says nothing is no value."""

import unicodedata
from itertools import combinations
from pathlib import Path

import pytest
from conftest import composed
from helpers.small_sets import all_specimens, described, opened, refusal, specimens_of, write_image
from hydra.utils import instantiate

from hep2.data import sources
from hep2.data.spelling import id_key, label_key, nearly, nothing, spelling_key
from hep2.rundir.directory import configuration_differences

ONE = [
    ("S01", "s1", "S1", "s-01", "S 1", "s_1", "\uff331", "S\u00a01"),
    ("1", "01", "001", "1.0", "1.00"),
    ("fine speckled", "Fine-Speckled", "fine_speckled", "FineSpeckled", "FINE  SPECKLED "),
    ("homog\u00e8ne", "homoge\u0300ne", "HOMOG\u00c8NE"),
    ("centromere", "Centromeres"),
    ("nuclear dots", "Nuclear dot"),
    ("body", "Bodies"),
    ("P1-2", "p01_2", "P1 2"),
]
MANY = ["AC-1", "AC-11", "AC-12", "AC-1-1", "+", "++", "ANA", "ANA+", "ANA-", "1-1", "11", "1",
        "10", "1.1", "1.10", "100", "homogeneous", "nucleolar", "fine speckled", "coarse speckled",
        "S1a", "S1b", "class", "glas"]  # fmt: skip


@pytest.mark.parametrize("names", ONE)
def test_spellings_of_one_name(names: tuple[str, ...]) -> None:
    assert len({spelling_key(name) for name in names}) == 1


def test_other_names_are_others() -> None:
    alike = [pair for pair in combinations(MANY, 2) if len(set(map(spelling_key, pair))) == 1]
    assert alike == []


def test_a_pattern_by_its_whole_name() -> None:
    assert label_key("Nucleolar pattern") == label_key("nucleolar")
    assert label_key("pattern 1") != label_key("1")


@pytest.mark.parametrize("text", ["1", "1.0", "00001", "00001.png", "img/00001.TIFF", "x\\1.jpg"])
def test_spellings_of_one_id(text: str) -> None:
    assert id_key(text) == "1"
    assert id_key("img_1") == id_key("IMG_1.png") == "img_1"


def write(root: Path, column: str, spell: list[str] | None = None, plain: str = "") -> Path:
    """A manifest of twelve cells; `spell` are two forms of what stands in a column."""
    lines = []
    for number, cell in enumerate(described()):
        name = f"{cell['i']}.png"
        write_image(root / name)
        if spell:
            cell = {**cell, column: spell[number % 2].format(**cell)}
        elif number == 4:
            cell = {**cell, column: plain}
        lines.append(f"{cell.get('image', name)},{cell['label']},{cell['specimen']},{cell['pool']}")
    (root / "manifest.csv").write_text("\n".join(["image,label,specimen,pool", *lines, ""]))
    return root


SPELT = [
    ("label", ["{label}", "{label} "], 0),  # blanks around a field are nothing
    ("label", ["{label} dot", "{label} dots"], 3),
    ("label", ["fine_{label}", "Fine {label}"], 3),
    ("label", ["{label}", "{label} pattern"], 3),
    ("label", [unicodedata.normalize(form, "\u00e9{label}") for form in ("NFC", "NFD")], 3),
    ("specimen", ["{label}-{s}", "{label}_0{s}"], 6),
    ("specimen", ["{label} {s}", "{label}\u00a0{s}"], 6),
]


@pytest.mark.parametrize(("column", "forms", "count"), SPELT)
def test_two_spellings_are_refused_all_at_once_or_merged(
    column: str, forms: list[str], count: int, tmp_path: Path
) -> None:
    root = write(tmp_path / "data", column, forms)
    if not count:
        assert len(opened(sources.manifest(str(root)), tmp_path)) == 12
        return
    text = refusal(lambda: sources.manifest(str(root)), tmp_path)
    lines = [line for line in text.splitlines() if line.startswith(f"  {column} '")]
    assert len(lines) == count
    for line in lines:
        assert line.count(" cells, e.g. manifest.csv row ") == 2
    assert "data.source.merge_spellings=true" in text
    words = (f"data.root={root}", "data.source.merge_spellings=true")
    source = composed("data=manifest", *words).data.source
    with pytest.warns(UserWarning, match="spellings are merged:") as caught:
        cells = opened(instantiate(source, _convert_="all"), tmp_path)
    assert len(caught) == 1
    assert len(cells.classes) == 3
    assert len(specimens_of(cells)) == 6


def test_the_commonest_spelling_is_kept(tmp_path: Path) -> None:
    root = write(tmp_path / "data", "specimen", plain="SPE 1")
    lines = (root / "manifest.csv").read_text().replace("SPE1", "spe01", 1)
    (root / "manifest.csv").write_text(lines.replace("SPE 1", "NUC0"))
    with pytest.warns(UserWarning, match="specimen 'SPE1' of spe01"):
        source = sources.manifest(str(root), merge_spellings=True)
    assert specimens_of(opened(source, tmp_path)) == all_specimens()


@pytest.mark.parametrize(
    ("one", "two", "near"),
    [("Homogeneous", "homogenous", True), ("fine speckled", "fine speckeled", True),
     ("fine speckled", "coarse speckled", False), ("pattern a", "pattern b", False),
     ("nucleolar", "nuclear", False), ("pattern1", "pattern2", False), ("golgi", "golga", False)],
)  # fmt: skip
def test_misspelt_labels_are_asked_about(one: str, two: str, near: bool) -> None:
    assert nearly(one, two) == nearly(two, one) == near


def test_a_misspelt_label_warns(tmp_path: Path) -> None:
    root = write(tmp_path / "data", "label", ["{label}", "{label}"])
    text = (root / "manifest.csv").read_text().replace("homogeneous", "homogenous", 2)
    (root / "manifest.csv").write_text(text.replace("NUC1", "HOM1"))
    with pytest.warns(UserWarning) as caught:
        sources.manifest(str(root), merge_spellings=True)
    said = [str(one.message) for one in caught]
    assert (
        "labels that differ by a letter or two; one pattern, misspelt? 'homogeneous' and" in said[0]
    )


def test_runs_of_before_are_those_without_the_new_settings() -> None:
    asked = composed("data=folder", "data.root=x")
    stored = {"data": {"source": {"_target_": asked.data.source._target_, "name": "folder"}}}
    different = configuration_differences(stored, asked)
    assert not [line for line in different if "source" in line]


@pytest.mark.parametrize(
    "text",
    ["nan", "NaN", "#N/A", "n/a", "NULL", "None", "-", "?", "<NA>", "n.a.", "#VALUE!", "NA", "--",
     "#REF!", "null", "\u2014", "missing", "NaT"],
)  # fmt: skip
def test_values_that_mean_nothing(text: str, tmp_path: Path) -> None:
    assert nothing(text) and nothing(f" {text} ")
    root = tmp_path / "data"
    place = "manifest.csv row 6"
    said = refusal(lambda: sources.manifest(str(write(root, "label", plain=text))), tmp_path)
    assert f"{place} (00005.png): the label '{text}' says that there is none" in said
    assert "another name" in said
    said = refusal(lambda: sources.manifest(str(write(root, "specimen", plain=text))), tmp_path)
    assert f"{place} (00005.png): no specimen, though other rows have one ('{text}' says" in said
    said = refusal(lambda: sources.manifest(str(write(root, "pool", plain=text))), tmp_path)
    assert f"{place} (00005.png): no pool, though other rows have one" in said
    said = refusal(lambda: sources.manifest(str(write(root, "image", plain=text))), tmp_path)
    assert f"{place} ({text}): no image is named" in said


@pytest.mark.parametrize(
    "text", ["negative", "0", "Nano", "A-1", "nul", "NAN1", "N", "none of these"]
)
def test_values_that_mean_something(text: str) -> None:
    assert not nothing(text)


def test_specimens_that_are_all_unknown(tmp_path: Path) -> None:
    root = write(tmp_path / "data", "specimen", ["nan", "unknown"])
    assert specimens_of(opened(sources.manifest(str(root)), tmp_path)) == [""]


def test_a_folder_called_none(tmp_path: Path) -> None:
    for place in ("None/s1/1.png", "None/s2/2.png", "b/s3/3.png", "b/s4/4.png"):
        write_image(tmp_path / "data" / place)
    said = refusal(lambda: sources.folder(str(tmp_path / "data")), tmp_path)
    assert "None/s1/1.png: the label 'None' says that there is none" in said
