"""Folders are read on the level that is meant, or refused with the layout that was seen."""

from pathlib import Path

import pytest
from conftest import composed
from helpers.small_sets import all_specimens, opened, refusal, specimens_of, write_folders
from hydra.utils import instantiate

from hep2.data import sources

LEAKY = "only protocols marked leaky"
SEEN = [
    ("{pool}/{label}/{i}.png", "<pool>/<label>/<image>", "pool/label"),
    ("{label}/{pool}/{i}.png", "<label>/<pool>/<image>", "label/pool"),
    ("{pool}/{label}/{specimen}/{i}.png", "<pool>/<label>/<specimen>/", "pool/label/specimen"),
    ("train/{label}/{i}.png", "<pool>/<label>/<image>", "pool/label"),
    ("{label}/{i}.png", "<label>/<image>", "label"),
    ("images/{label}/{i}.png", "images/<label>/<image>", "_/label"),
    ("{label}/images/{i}.png", "<label>/images/<image>", "label/_"),
    ("{label}/all/{i}.png", "<label>/all/<image>", "label/_"),
    ("fold{s}/{label}/{i}.png", "<fold>/<label>/<image>", "_/label"),
    ("images/{label}/{specimen}/{i}.png", "images/<label>/<specimen>/", "_/label/specimen"),
    ("{label}/{specimen}/cells/{i}.png", "<label>/<specimen>/cells/", "label/specimen/_"),
    ("HEp2/{pool}/{label}/{i}.png", "HEp2/<pool>/<label>/<image>", "_/pool/label"),
]


@pytest.mark.parametrize(("form", "shape", "layout"), SEEN)
def test_the_layout_that_was_seen_and_the_setting_that_reads_it(
    form: str, shape: str, layout: str, tmp_path: Path
) -> None:
    root = write_folders(tmp_path / "data", form)
    text = refusal(lambda: sources.folder(str(root)), tmp_path)
    assert shape in text
    assert f"data.source.layout={layout} reads it" in text
    assert (LEAKY in text) == ("specimen" not in layout)
    words = (f"data.root={root}", f"data.source.layout={layout}")
    cfg = composed("data=folder", *words)  # as it is pasted
    cells = opened(instantiate(cfg.data.source, _convert_="all"), tmp_path)
    assert cells.classes == ("homogeneous", "nucleolar", "speckled")
    assert sorted(cells.labels.tolist()) == sorted([0, 1, 2] * 4)
    assert specimens_of(cells) == (all_specimens() if "specimen" in layout else [""])
    pools = {"train"} if form.startswith("train") else {"train", "test"}
    assert set(cells.pools.tolist()) == (pools if "pool" in layout else {""})


@pytest.mark.parametrize("form", ["{specimen}/{label}/{i}.png", "{s}/{label}/{i}.png",
                                  "{label}/{s}/{i}.png"])  # fmt: skip
def test_specimens_above_labels_and_every_specimen_under_every_label(
    form: str, tmp_path: Path
) -> None:
    root = write_folders(tmp_path / "data", form)
    text = refusal(lambda: sources.folder(str(root)), tmp_path)
    assert "add data.source.layout=specimen/label" in text
    assert "if they really have several labels, add data.source.layout=label/specimen" in text


def test_what_the_user_states_is_taken(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{specimen}/{label}/{i}.png")
    cells = opened(sources.folder(str(root), layout="specimen/label"), tmp_path)
    assert cells.classes == ("homogeneous", "nucleolar", "speckled")
    assert specimens_of(cells) == all_specimens()
    other = write_folders(tmp_path / "other", "{label}/{s}/{i}.png")
    with pytest.warns(UserWarning, match="more than one label"):
        cells = opened(sources.folder(str(other), layout="label/specimen"), tmp_path)
    assert specimens_of(cells) == ["0", "1"]


def test_no_folder_names_a_label(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "images/{i}.png", "masks/{i}.png")
    text = refusal(lambda: sources.folder(str(root)), tmp_path)
    assert "holds images/<image>, not <label>/<specimen>/<image>: no folder names a label" in text
    assert "data=manifest" in text


@pytest.mark.parametrize("layout", ["specimen", "label/label", "label/slide", "", "7"])
def test_a_layout_that_is_none(layout: str, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{label}/{specimen}/{i}.png")
    text = refusal(lambda: sources.folder(str(root), layout=layout), tmp_path)
    assert f"data.source.layout={layout} must name each level" in text


def test_the_contest_s_source_points_to_what_reads_a_folder(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{pool}/{label}/{i}.png")
    text = refusal(lambda: sources.i3a(str(root)), tmp_path)
    assert "neither gt_training.csv nor the folders tra, val and tes" in text
    assert "for data=folder" in text and "data.source.layout=pool/label reads it" in text
    deep = tmp_path / "deep" / "I3A"
    write_folders(deep, "{i}.png")
    (deep / "gt_training.csv").write_text("Image ID,Image class\n1,a\n")
    assert f"add data.root={deep}" in refusal(lambda: sources.i3a(str(deep.parent)), tmp_path)
