"""Trained on one source, tested on another; and what a manifest with sources is read as."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import composed
from PIL import Image

from hep2.data import sources
from hep2.data.across import Across, across_of, left_out, with_patterns
from hep2.data.cells import Cells
from hep2.data.fold import Fold, open_fold
from hep2.data.protocols import Split, fold_count, make_split
from hep2.data.store import open_cells
from hep2.errors import HEp2Error

CLASSES = ("golgi", "nucleolar", "speckled")


def joined() -> Cells:
    """Two cells of each pattern in each of three sources; c has no golgi, a alone has speckled."""
    rows = [
        (source, label, f"{source}/{label}{n}")
        for source, labels in (("b", (0, 1)), ("a", (0, 1, 2)), ("c", (1,)))
        for label in labels
        for n in range(2)
    ]
    origins, labels, specimens = zip(*rows, strict=True)
    ids, empty = np.array([f"c{n:02d}" for n in range(len(rows))]), np.full(len(rows), "")
    images = np.zeros((len(rows), 1, 8, 8), np.uint8)
    return Cells(images, ids, np.array(labels), np.array(specimens), empty, CLASSES, "x", "0" * 16,
                 sources=np.array(origins))  # fmt: skip


def split_of(cells: Cells, fold: int = 0, train: Any = None, test: Any = None) -> Split:
    return make_split(cells, "source", fold, 0, 0, 0, across_of(train, test))


def sides(cells: Cells, split: Split) -> list[set[tuple[str, int]]]:
    """Source and pattern of the cells on either side."""
    return [
        set(zip(cells.sources[part].tolist(), cells.labels[part].tolist(), strict=True))
        for part in (split.train, split.test)
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"fold": 0}, [{("b", 0), ("b", 1), ("c", 1)}, {("a", 0), ("a", 1)}]),
        ({"fold": 2}, [{("a", 1), ("b", 1)}, {("c", 1)}]),
        ({"train": "a", "test": "b"}, [{("a", 0), ("a", 1)}, {("b", 0), ("b", 1)}]),
        ({"train": "c", "test": "a"}, [{("c", 1)}, {("a", 1)}]),
        ({"train": ["b", "c"]}, [{("b", 0), ("b", 1), ("c", 1)}, {("a", 0), ("a", 1)}]),
        ({"train": "b", "fold": 1}, [{("b", 1)}, {("c", 1)}]),
        ({"test": ["c", "b"], "fold": 1}, [{("a", 0), ("a", 1), ("c", 1)}, {("b", 0), ("b", 1)}]),
    ],
)
def test_a_fold_tests_one_source_and_learns_the_common_patterns_from_others(
    asked: dict[str, Any], expected: list[set[tuple[str, int]]]
) -> None:
    cells = joined()
    split = split_of(cells, **asked)
    assert sides(cells, split) == expected
    assert not split.leaky
    for part in (split.train, split.test):
        assert np.array_equal(part, np.sort(part)) and len(part) == 2 * len(np.unique(
            np.char.add(cells.sources[part], cells.labels[part].astype(str))))  # fmt: skip


def test_there_are_as_many_folds_as_tested_sources() -> None:
    cells = joined()
    counts = [
        fold_count("source", 5, cells, across)
        for across in (Across(), Across(test=("a",)), Across(train=("b",)), Across(("b",), ("c",)))
    ]
    assert counts == [3, 1, 2, 1]
    with pytest.raises(HEp2Error, match="fold=1 is out of range: protocol=source has 0 to 0"):
        split_of(cells, 1, "b", "c")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"train": "d"}, "protocol.train=d: no cell is of this source; there are a, b, c"),
        ({"test": ["a", "A"]}, "protocol.test=A: no cell is of this source; there are a, b, c"),
        ({"train": "a", "test": ["a", "b"]}, "both name a: take it out of one"),
        ({"train": ["a", "b", "c"]}, "names every source: leave one out, for the test"),
    ],
)
def test_wrong_choices_are_named(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(HEp2Error) as caught:
        split_of(joined(), **asked)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("origins", "found"),
    [
        (np.array(["a", ""] * 6), "6 of 12 cells have none"),
        (np.full(12, ""), "12 of 12 cells have none"),
        (np.empty(0, np.str_), "12 of 12 cells have none"),
        (np.full(12, "a"), "all are a's"),
    ],
)
def test_a_source_is_needed_for_every_cell(origins: Any, found: str) -> None:
    from dataclasses import replace

    with pytest.raises(HEp2Error) as caught:
        split_of(replace(joined(), sources=origins))
    assert f"two or more sources, but {found}: add a column `source`" in str(caught.value)


def test_patterns_get_other_names_and_the_data_another_key() -> None:
    cells = joined()
    other = with_patterns(cells, {"speckled": "fine", "golgi": "nucleolar"})
    assert other.classes == ("nucleolar", "fine")
    assert other.labels.tolist() == [{0: 0, 1: 0, 2: 1}[label] for label in cells.labels.tolist()]
    assert other.key != cells.key and len(other.key) == 16
    assert other.key == with_patterns(cells, {"golgi": "nucleolar", "speckled": "fine"}).key
    with pytest.raises(
        HEp2Error, match=r"protocol\.patterns: Golgi: no such pattern; there are gol"
    ):
        with_patterns(cells, {"Golgi": "golgi"})


def test_patterns_that_one_side_lacks_are_counted() -> None:
    cells = joined()
    split = split_of(cells, 0)
    assert left_out(cells, np.concatenate([split.train, split.test])) == ["speckled (2)"]
    assert left_out(cells, np.arange(len(cells))) == []


def write_joined(root: Path) -> Path:
    """Two laboratories that both number their specimens from 1; one says `coarse` for speckled."""
    rng, rows = np.random.default_rng(0), list[tuple[str, ...]]()
    for lab, patterns in (("near", ("golgi", "speckled")), ("far", ("golgi", "coarse", "numem"))):
        for pattern in patterns:
            for number in "12":
                name, specimen = f"{lab}-{pattern}-{number}.png", f"{pattern[0]}{number}"
                Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).save(root / name)
                rows.append((name, pattern, specimen, lab))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "specimen", "source"), *rows])
    return root


def joined_fold(root: Path, *words: str) -> Fold:
    return open_fold(composed("data=manifest", f"data.root={root}", "protocol=source",
                              f"cache_dir={root}/cache", "data.image_size=16", *words))  # fmt: skip


def test_a_joined_manifest_from_the_command_line_to_the_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fold = joined_fold(write_joined(tmp_path), "protocol.train=near", "protocol.test=far",
                           "protocol.patterns={coarse: speckled}")  # fmt: skip
    cells, split = fold.cells, fold.split
    assert fold.count == 1 and fold.protocol == "source"
    assert set(cells.sources[split.train]) == {"near"} and set(cells.sources[split.test]) == {"far"}
    assert len(split.train) == len(split.test) == 4
    assert set(cells.specimens[split.train]) == {"near/g1", "near/g2", "near/s1", "near/s2"}
    assert set(cells.specimens[split.test]) == {"far/g1", "far/g2", "far/c1", "far/c2"}
    assert caplog.messages[0] == (
        "fold 0: patterns without cells on both sides, left out: numem (2)"
    )
    again = joined_fold(tmp_path, "protocol.train=near")
    assert again.cells.key != fold.cells.key
    assert [again.cells.classes[label] for label in set(again.cells.labels[again.split.test])] == [
        "golgi"
    ]


def test_without_a_mapping_every_source_is_tested_in_turn(tmp_path: Path) -> None:
    folds = [joined_fold(write_joined(tmp_path), f"fold={fold}") for fold in range(2)]
    assert [fold.count for fold in folds] == [2, 2]
    tested = [set(fold.cells.sources[fold.split.test]) for fold in folds]
    assert tested == [{"far"}, {"near"}]


def test_rows_without_a_source_among_rows_with_one_are_named(tmp_path: Path) -> None:
    table = write_joined(tmp_path) / "manifest.csv"
    table.write_text(table.read_text().replace("g1,near", "g1,"))
    with pytest.raises(HEp2Error) as caught:
        open_cells(sources.manifest(str(tmp_path)), tmp_path / "cache", 16, "green")
    assert "(near-golgi-1.png): no source, though other rows have one" in str(caught.value)


def test_data_without_sources_are_what_they_were(tmp_path: Path) -> None:
    """Their key is that of earlier versions: weights and caches stay valid."""
    table = write_joined(tmp_path) / "manifest.csv"
    table.write_text(table.read_text().replace(",near", ",").replace(",far", ","))
    cells = open_cells(sources.manifest(str(tmp_path)), tmp_path / "cache", 16, "green")
    assert cells.key == "abafba1dddc91c7b"
    header = next((tmp_path / "cache").rglob("cells.csv")).read_text().splitlines()[0]
    assert header == "id,label,specimen,pool"
