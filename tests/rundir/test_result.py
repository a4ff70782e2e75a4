import json
import shutil

import numpy as np
import pytest
from helpers.made_up_runs import FIVE, cells_of_fold, write_reconstruction, write_run

from hep2.errors import HEp2Error
from hep2.evaluation.results import group_runs, pooled_confusions
from hep2.metrics import confusion_counts
from hep2.rundir.layout import run_directories
from hep2.rundir.result import data_label, protocol_label, read_run


def change(path, **changes):
    stored = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps({**stored, **changes}))


def change_row(path, number, old, new):
    """Replace a text in a line of predictions.csv; the header is line 1."""
    file = path / "predictions.csv"
    lines = file.read_text().splitlines()
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    file.write_text("\n".join(lines) + "\n")


def test_a_run_is_read_back_whole(tmp_path):
    path, targets, outputs, probabilities = write_run(tmp_path, fold=2, seed=3)
    run = read_run(path)
    assert (run.method, run.fold, run.folds, run.seed) == ("dcae-mlp", 2, 5, 3)
    assert (run.data, run.protocol, run.synthetic, run.leaky) == (
        "synthetic", "published", True, False,
    )  # fmt: skip
    assert run.classes == FIVE
    assert np.array_equal(run.cells.targets, targets)
    assert np.array_equal(run.cells.outputs, outputs)
    assert np.allclose(run.cells.probabilities, probabilities, atol=1e-8)
    rows = cells_of_fold(2)
    assert run.cells.ids.tolist() == [row[0] for row in rows]
    assert run.cells.known_specimens.tolist() == [row[1] for row in rows]


def test_a_run_that_no_command_line_started(tmp_path):
    path, *_ = write_run(tmp_path)
    change(path, command=None)
    assert read_run(path).command == ""


def test_finished_and_unfinished_directories(tmp_path):
    done, *_ = write_run(tmp_path, fold=0)
    begun, *_ = write_run(tmp_path, fold=1)
    (begun / "result.json").unlink()
    assert run_directories(tmp_path / "default") == ([done], [begun])
    assert run_directories(tmp_path / "nowhere") == ([], [])


def test_a_reconstruction_has_no_predictions_and_is_in_no_group(tmp_path):
    run = read_run(write_reconstruction(tmp_path))
    assert run.predictions is None
    assert group_runs([run]) == []


def test_unknown_specimens(tmp_path):
    rows = [(name, "", target) for name, _, target in cells_of_fold(0)]
    path, *_ = write_run(tmp_path, rows=rows)
    assert read_run(path).cells.known_specimens is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fold": "0"}, "key fold"),
        ({"fold": True}, "key fold"),
        ({"fold": 7, "folds": 5}, "not one of the 5 folds"),
        ({"fold": 1}, "another directory"),
        ({"seed": 1}, "another directory"),
        ({"data_key": "xyz"}, "key data_key"),
        ({"method": "../dcae"}, "key method"),
        ({"leaky": 0}, "key leaky"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": []}, "classes"),
        ({"metrics": {"published/test/aca": "high"}}, r"metrics.published/test/aca"),
        ({"metrics": {"published/test/aca": 0.123}}, r"published/test/aca is 0.1230"),
        ({"metrics": {"published/test/mca": 0.123}}, r"published/test/mca is 0.1230"),
        ({"cells": {"test": 7}}, "7 test cells"),
        ({"cells": {}}, "None test cells"),
    ],
)
def test_a_damaged_result_names_its_file_key_and_remedy(tmp_path, changes, named):
    path, *_ = write_run(tmp_path)
    change(path, **changes)
    with pytest.raises(HEp2Error, match=named) as caught:
        read_run(path)
    assert str(path) in str(caught.value)
    assert "run its command again" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_result_that_is_no_json_object(tmp_path, text):
    path, *_ = write_run(tmp_path)
    (path / "result.json").write_text(text)
    with pytest.raises(HEp2Error, match=r"result\.json is damaged or foreign"):
        read_run(path)


def test_every_required_key_is_missed(tmp_path):
    path, *_ = write_run(tmp_path)
    stored = json.loads((path / "result.json").read_text())
    unused = {"a_later_key", "specimens", "validation", "epochs", "versions", "git_commit", "name"}
    for key in stored.keys() - unused - {"recall"}:
        (path / "result.json").write_text(json.dumps({k: stored[k] for k in stored if k != key}))
        with pytest.raises(HEp2Error, match=f"key {key} is missing"):
            read_run(path)


@pytest.mark.parametrize(
    ("number", "old", "new", "named"),
    [
        (1, "output", "called", "row 1 .*output"),
        (1, "p_nucleolar", "nucleolar", "row 1 .*p_nucleolar"),
        (5, "homogeneous", "golgi", "row 5: .*golgi"),
        (5, ",homogeneous", "", "row 5 has 8 columns, not 9"),
        (6, "f0-0-0-4,", "f0-0-0-3,", "row 6: id 'f0-0-0-3'"),
        (6, "f0-0-0-4,", ",", "row 6: id ''"),
        (4, "0.", "x.", "row 4: could not convert"),
        (4, "0.", "9.", "row 4: probabilities"),
        (4, ",0.", ",-0.", "row 4: probabilities"),
        (4, ",0.", ",nan,0.", "row 4 has"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, number, old, new, named):
    path, *_ = write_run(tmp_path)
    change_row(path, number, old, new)
    with pytest.raises(HEp2Error, match=named) as caught:
        read_run(path)
    assert str(path / "predictions.csv") in str(caught.value)
    assert "run its command again" in str(caught.value)


def test_probabilities_that_are_no_numbers(tmp_path):
    path, *_ = write_run(tmp_path)
    file = path / "predictions.csv"
    lines = file.read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:4], "nan", "0", "0", "0", "1"])
    file.write_text("\n".join(lines))
    with pytest.raises(HEp2Error, match="row 2: probabilities nan"):
        read_run(path)


@pytest.mark.parametrize("novelty", ["much", "nan", "inf", "-0.1", ""])
def test_a_novelty_is_read_back_and_a_bad_one_named(tmp_path, novelty):
    path, *_ = write_run(tmp_path)
    assert read_run(path).cells.unlike is None
    file = path / "predictions.csv"
    heading, *lines = file.read_text().splitlines()
    values = ["0.5", "1.5", *["1"] * (len(lines) - 2)]
    table = [f"{heading},novelty", *map(",".join, zip(lines, values, strict=True))]
    file.write_text("\n".join(table))
    assert read_run(path).cells.unlike.tolist() == [False, True, *[False] * (len(lines) - 2)]
    file.write_text("\n".join([*table[:2], f"{lines[1]},{novelty}", *table[3:]]))
    with pytest.raises(HEp2Error, match=rf"row 3: .*{novelty}"):
        read_run(path)


def test_missing_empty_and_truncated_predictions(tmp_path):
    path, *_ = write_run(tmp_path)
    file = path / "predictions.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    with pytest.raises(HEp2Error, match=r"120 test cells, predictions\.csv has 119"):
        read_run(path)
    file.write_text(lines[0])
    with pytest.raises(HEp2Error, match="no row below the header"):
        read_run(path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HEp2Error, match="damaged or foreign"):
        read_run(path)
    file.unlink()
    with pytest.raises(HEp2Error, match=r"predictions\.csv is missing"):
        read_run(path)


def test_groups_by_data_protocol_and_method(tmp_path):
    paths = [write_run(tmp_path, method, fold)[0] for method in ("b", "a") for fold in (3, 1)]
    paths.append(write_run(tmp_path, "a", 0, protocol="random", leaky=True)[0])
    groups = group_runs([read_run(path) for path in paths])
    found = [(g.first.protocol, g.first.method, list(g.by_fold)) for g in groups]
    expected = [("published", "a", [1, 3]), ("published", "b", [1, 3]), ("random", "a", [0])]
    assert found == expected
    assert groups[0].missing_folds == [0, 2, 4]
    assert [protocol_label(group.first) for group in groups] == [
        "published", "published", "random-leaky",
    ]  # fmt: skip
    assert data_label(groups[0].first) == "synthetic"


def test_simulated_cells_of_another_name_are_labelled(tmp_path):
    path, *_ = write_run(tmp_path, data="mine")
    assert data_label(read_run(path)) == "mine-synthetic"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data_key": "f" * 16}, "data_key"),
        ({"classes": list(FIVE[::-1])}, "classes"),
        ({"folds": 10}, "folds"),
        ({"synthetic": False}, "synthetic"),
    ],
)
def test_runs_that_do_not_belong_together_are_not_pooled(tmp_path, changes, what):
    here, *_ = write_run(tmp_path, fold=0)
    there, *_ = write_run(tmp_path, fold=1, **changes)
    with pytest.raises(HEp2Error, match=f"their {what} differ") as caught:
        group_runs([read_run(here), read_run(there)])
    assert str(here) in str(caught.value) and str(there) in str(caught.value)


def test_a_copied_run_is_not_counted_twice(tmp_path):
    path, *_ = write_run(tmp_path)
    copy = tmp_path / "default" / "synthetic-published" / "copy" / "fold0" / "seed0"
    shutil.copytree(path, copy)
    with pytest.raises(HEp2Error, match="same fold and seed"):
        group_runs([read_run(path), read_run(copy)])


def test_pooled_counts_give_every_fold_the_same_weight_whatever_its_seeds(tmp_path):
    runs = [write_run(tmp_path, fold=0, seed=seed) for seed in range(3)]
    runs.append(write_run(tmp_path, fold=1))
    group = group_runs([read_run(path) for path, *_ in runs])[0]
    names, confusions = pooled_confusions(group, group.by_fold)
    counts = [confusion_counts(targets, outputs, 5) for _, targets, outputs, _ in runs]
    assert np.allclose(confusions.sum(axis=0), sum(counts[:3]) / 3 + counts[3])
    assert len(names) == 30
    _, first = pooled_confusions(group, [1])
    assert np.allclose(first.sum(axis=0), counts[3])
