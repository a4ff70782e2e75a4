"""What the report says of specimens and of calibration, from the files of runs."""

import json

import numpy as np
import pytest
from helpers.made_up_runs import cells_of_fold, write_run
from helpers.results import keep

from hep2 import metrics
from hep2.calls.answer import UNLIKE
from hep2.calls.calibration import HeldOut, calibrated
from hep2.calls.figures import called_against_error, cell_figures
from hep2.calls.record import as_record
from hep2.errors import HEp2Error
from hep2.evaluation import specimen_tables
from hep2.evaluation.page import show_method
from hep2.evaluation.results import group_runs, summarise_group
from hep2.evaluation.specimens import answers_of
from hep2.evaluation.statistics import percentile_interval
from hep2.rundir.predictions import held_out_csv
from hep2.rundir.result import read_run

CLASSES = ("a", "b", "c")


def calibrate(path, seed=0, specimens=24, alphas=(0.1, 0.05)):
    """Give a run a calibration, as the stage would, from made-up held-out cells."""
    rng, owner = np.random.default_rng(seed), np.repeat(np.arange(specimens), 8)
    labels, noise = owner % 3, rng.dirichlet(np.ones(3), len(owner))
    shares = 0.5 * noise + 0.5 * np.eye(3)[np.where(rng.random(len(owner)) < 0.9, labels, 0)]
    names = np.array([f"t{number:02d}" for number in owner])
    ids = np.array([f"h{i}" for i in range(len(owner))])
    held = HeldOut(ids, names, labels, shares, "specimens made up")
    record = as_record(calibrated(held, list(alphas), 4), CLASSES)
    keep(path, calibration=record)
    (path / "held_out.csv").write_text(held_out_csv(held, CLASSES))


def written(tmp_path, calibrated=True, rows=None, folds=2, accuracy=0.8):
    for fold in range(folds):
        own = cells_of_fold(fold, CLASSES) if rows is None else rows
        path, *_ = write_run(tmp_path, fold=fold, rows=own, accuracy=accuracy, folds=folds,
                             classes=list(CLASSES), protocol="specimen")  # fmt: skip
        if calibrated:
            calibrate(path, seed=fold)
    runs = [read_run(path) for path in sorted(tmp_path.glob("default/*/*/fold*/seed0"))]
    (group,) = group_runs(runs)
    return summarise_group(group), answers_of(group)


def test_pooled_figures_are_those_of_the_runs(tmp_path):
    result, said = written(tmp_path)
    assert said.count == len(said.every) == 18
    for name, value in (("specimen_accuracy", said.accuracy("mean")), ("specimen_said", said.said),
                        ("specimen_coverage_90", said.coverage(0.1))):  # fmt: skip
        assert value.estimate == pytest.approx(result.measures[name].mean), name
        assert value.low <= value.estimate <= value.high
    assert said.set_size(0.05) == pytest.approx(result.measures["specimen_set_size_95"].mean)
    assert said.set_size(0.05) >= said.set_size(0.1)
    confusion = said.confusions().sum(axis=0)
    assert said.metric(metrics.kappa).estimate == pytest.approx(float(metrics.kappa(confusion)))
    assert said.alphas == [0.1, 0.05] and said.rules == ["mean", "vote", "learned"]
    run = result.group.first
    before = metrics.calibration_error(
        run.cells.targets, run.cells.outputs, run.cells.probabilities
    )
    assert before == pytest.approx(metrics.summarise(
        run.cells.targets, run.cells.outputs, run.cells.probabilities, 3)["ece"])  # fmt: skip
    assert result.measures["ece_calibrated"].mean != result.measures["ece"].mean


def test_a_specimen_of_several_folds_counts_once(tmp_path):
    rows = cells_of_fold(0, CLASSES)
    _, said = written(tmp_path, rows=rows)
    assert len(said.every) == 18 and said.count == 9
    assert said.weights.tolist() == [0.5] * 18
    assert said.confusions().sum() == pytest.approx(9)
    right = [one.rules["mean"] == one.target for one in said.every]
    assert said.accuracy("mean").estimate == pytest.approx(np.mean(right))


def test_the_curve_goes_from_the_surest_to_all():
    sure = np.array([0.9, 0.5, 0.7, 0.7])
    curve = called_against_error(sure, np.array([1, 0, 1, 0.0]), np.ones(4))
    assert curve.tolist() == [[0.25, 0], [0.75, pytest.approx(1 / 3)], [1, 0.5]]


def test_second_patterns_are_counted_by_share(tmp_path):
    """A specimen of 5 a and 3 b whose cells are all named rightly; others have one pattern."""
    mixed = [(f"m{i}", "mixed", int(i >= 5)) for i in range(8)]
    rows = cells_of_fold(0, CLASSES) + mixed
    result, said = written(tmp_path, rows=rows, folds=1, accuracy=1.0)
    (one,) = [answer for answer in said.every if answer.specimen == "mixed"]
    assert (one.target, one.second, one.share) == (0, 1, 0.375)
    assert (one.said.pattern, one.said.second) == (0, 1)
    assert one.said.reason == "mixed" and not one.said.said
    assert said.tenths == [4] and said.both_named(4).estimate == 1
    assert said.invented.estimate == 0
    (table,) = specimen_tables.seconds([(result, said)])
    assert "both named %,\n40 % second (specimen)" in table.heading
    assert table.rows[0][-1].startswith("100.00 [")


def test_tables_of_a_run_of_an_earlier_version(tmp_path):
    """It was not calibrated, and kept nothing: calls are made all the same, and no promise."""
    result, said = written(tmp_path, calibrated=False)
    assert not said.calibrated and said.alphas == [] and said.rules == ["mean", "vote"]
    pair = [(result, said)]
    (row,) = specimen_tables.calls(pair).rows
    assert row[4:6] == ["not calibrated"] * 2
    assert specimen_tables.sets(pair) == specimen_tables.seconds(pair) == []
    assert specimen_tables.rules(pair) == specimen_tables.cell_sets([result]) == []
    table = specimen_tables.calibration([result])
    assert "run by an earlier version" in table.notes[0]
    assert table.rows[0][1] == "not calibrated"
    assert show_method(result, said).doubtful is not None or said.accuracy("mean").estimate == 1


def test_doubtful_specimens_come_wrong_first_the_surest_of_them_first(tmp_path):
    result, said = written(tmp_path, accuracy=0.35)
    table = specimen_tables.doubtful(result, said)
    wrong = [row[1] != row[2] for row in table.rows]
    assert wrong == sorted(wrong, reverse=True) and any(wrong)
    sure = [float(row[3]) for row, other in zip(table.rows, wrong, strict=True) if other]
    assert sure == sorted(sure, reverse=True)
    assert len(table.rows) <= specimen_tables.SHOWN
    unsure = sum(one.rules["mean"] != one.target or not one.said.said for one in said.every)
    assert len(table.rows) == min(unsure, specimen_tables.SHOWN)


def test_specimens_that_are_unknown_have_no_answers(tmp_path):
    rows = [(name, "", target) for name, _, target in cells_of_fold(0, CLASSES)]
    result, said = written(tmp_path, calibrated=False, rows=rows, folds=1)
    assert said is None and "specimen_mca" not in result.measures
    assert "brier" in result.measures
    assert [picture.kind for picture in show_method(result, said).pictures].count("called") == 0


def test_a_damaged_calibration_is_told_with_its_file(tmp_path):
    path, *_ = write_run(tmp_path, classes=list(CLASSES), folds=1, protocol="specimen")
    calibrate(path)
    result = json.loads((path / "result.json").read_text())
    result["calibration"]["temperature"] = -1
    (path / "result.json").write_text(json.dumps(result))
    with pytest.raises(HEp2Error, match=r"result\.json is damaged.*key calibration"):
        summarise_group(group_runs([read_run(path)])[0])


def test_what_a_run_has_kept_of_its_specimens_is_shown(tmp_path):
    """Cells that a call had needed, and specimens most of whose cells are unlike the training's."""
    path, *_ = write_run(tmp_path, rows=cells_of_fold(0, CLASSES), accuracy=1.0, folds=1,
                         classes=list(CLASSES), protocol="specimen")  # fmt: skip
    calibrate(path)
    file, result = path / "predictions.csv", json.loads((path / "result.json").read_text())
    heading, *rows = file.read_text().splitlines()
    strange = [f"{row},{1.2 if row.startswith('f0-1-2') else 0.4}" for row in rows]
    file.write_text("\n".join([f"{heading},novelty", *strange]))
    result["specimen_calls"] = [{"specimen": "f0-1-2", "cells_needed": 5}]
    (path / "result.json").write_text(json.dumps(result))
    said = answers_of(group_runs([read_run(path)])[0])
    found = {one.specimen: one for one in said.every}
    assert found["f0-1-2"].needed == 5 and found["f0-1-2"].said.reason == UNLIKE
    assert found["f0-1-1"].needed in {1, 2, 4, 8} and found["f0-1-1"].said.reason != UNLIKE
    summary = summarise_group(group_runs([read_run(path)])[0])
    assert summary.measures["specimen_said"].mean == pytest.approx(said.said.estimate)

    result["specimen_calls"] = [{"specimen": "f0-1-2"}]
    (path / "result.json").write_text(json.dumps(result))
    with pytest.raises(HEp2Error, match=r"result\.json is damaged.*key specimen_calls"):
        answers_of(group_runs([read_run(path)])[0])


def test_pictures_say_before_and_after(tmp_path):
    result, said = written(tmp_path)
    pictures = {picture.kind: picture for picture in show_method(result, said).pictures}
    assert "after calibration" in pictures["reliability"].alt
    assert "held out" in pictures["reliability"].caption
    assert "from the surest to all 18" in pictures["called"].alt
    bare, _ = written(tmp_path / "bare", calibrated=False)
    alone = next(p for p in show_method(bare, None).pictures if p.kind == "reliability")
    assert "after" not in alone.alt and "Not calibrated." in alone.caption


def test_brier_is_the_mean_squared_distance():
    shares = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    found = cell_figures(np.array([0, 2]), shares.argmax(axis=1), shares, None)
    assert found == {"brier": pytest.approx((0.09 + 0.04 + 0.01 + 0.25 + 0.25) / 2)}


def test_percentile_intervals_hold_the_truth_and_have_ends_with_a_single_error():
    calls = np.zeros((20, 2, 2))
    calls[:10, 0, 0] = calls[10:, 1, 1] = 1
    assert np.isnan(percentile_interval(calls, metrics.aca).low)
    calls[0] = [[0, 0], [1, 0]]
    found = percentile_interval(calls, metrics.aca)
    assert found.estimate == 0.95 and 0.8 <= found.low < 0.95 <= found.high == 1
    gain = percentile_interval(calls, metrics.aca, calls[::-1])
    assert gain.estimate == 0
    better = np.zeros((20, 2, 2))
    better[:10, 0, 0] = better[10:, 1, 1] = 1
    gain = percentile_interval(better, metrics.aca, calls)
    assert gain.estimate == pytest.approx(0.05) and 0 <= gain.low < gain.high <= 0.2
    rng, covered = np.random.default_rng(0), 0
    for repeat in range(150):
        right = rng.random(40) < 0.8
        drawn = np.zeros((40, 2, 2))
        drawn[np.arange(40), np.where(right, 0, 1), 0] = 1
        interval = percentile_interval(drawn, metrics.aca, resamples=400, seed=repeat)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.86 < covered / 150 < 0.99
