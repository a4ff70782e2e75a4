import csv
import io
import re

import numpy as np
import pytest
from helpers.made_up_runs import FIVE, cells_of_fold, write_reconstruction, write_run
from scipy.stats import binomtest
from sklearn import metrics as reference

from hep2.data.sources import PAPER_CLASSES
from hep2.errors import HEp2Error
from hep2.evaluation import published, tables
from hep2.evaluation import results as tidy
from hep2.evaluation.formats import NOTHING, Table
from hep2.evaluation.report import make_report
from hep2.evaluation.results import compare_with_first, group_runs, rank, spread, summarise_group
from hep2.rundir.result import read_run


def results_of(runs):
    return rank([summarise_group(g) for g in group_runs([read_run(run[0]) for run in runs])])


def expected_figures(targets, outputs, probabilities):
    return {
        "aca": reference.accuracy_score(targets, outputs),
        "mca": reference.balanced_accuracy_score(targets, outputs),
        "macro_f1": reference.f1_score(targets, outputs, average="macro"),
        "kappa": reference.cohen_kappa_score(targets, outputs),
        "auroc": reference.roc_auc_score(targets, probabilities, multi_class="ovr"),
    }


def percent(values):
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"


def test_every_figure_over_folds_is_scikit_learn_s(tmp_path):
    runs = [write_run(tmp_path, fold=fold) for fold in range(5)]
    result = results_of(runs)[0]
    folds = [
        expected_figures(targets, outputs, probabilities / probabilities.sum(1, keepdims=True))
        for _, targets, outputs, probabilities in runs
    ]
    for name in folds[0]:
        values = [fold[name] for fold in folds]
        found = result.measures[name]
        assert found == pytest.approx((np.mean(values), np.std(values, ddof=1), 5)), name
    row = tables.over_folds([result]).rows[0]
    columns = [percent([fold[name] for fold in folds]) for name in ("mca", "aca", "macro_f1")]
    assert row == ["1", "dcae-mlp", "no", *columns, "22", "5"]  # 12.3 s and 10 of the encoder
    recalls = np.array([reference.recall_score(t, o, average=None) for _, t, o, _ in runs])
    assert tables.recalls([result]).rows == [["dcae-mlp", *(percent(r) for r in recalls.T)]]


def test_pooled_figures_are_those_of_all_cells_together(tmp_path):
    runs = [write_run(tmp_path, fold=fold) for fold in range(3)]
    result = results_of(runs)[0]
    targets = np.concatenate([run[1] for run in runs])
    outputs = np.concatenate([run[2] for run in runs])
    assert np.array_equal(result.confusion.T, reference.confusion_matrix(targets, outputs))
    mca = reference.balanced_accuracy_score(targets, outputs)
    interval = result.pooled["mca"]
    assert interval.estimate == pytest.approx(mca)
    row = tables.pooled([result]).rows[0]
    assert row[1] == f"{100 * mca:.2f} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
    assert interval.low < mca < interval.high
    assert row[4:] == ["360", "45"]


def test_one_fold_has_no_deviation_and_says_what_is_missing(tmp_path):
    run = write_run(tmp_path, fold=3)
    table = tables.over_folds(results_of([run]))
    mca = reference.balanced_accuracy_score(run[1], run[2])
    assert table.rows[0][3] == f"{100 * mca:.2f}"
    assert table.rows[0][7] == "1 of 5"
    assert any("folds not finished: 0, 1, 2, 4" in note for note in table.notes)


def test_who_lacks_folds_has_no_rank_however_good(tmp_path):
    folds = {"good": (0, 1), "half": (1,), "bad": (0, 1)}
    shares = {"good": 0.8, "half": 1.0, "bad": 0.4}
    runs = [write_run(tmp_path, method, fold, accuracy=shares[method])
            for method in folds for fold in folds[method]]  # fmt: skip
    results = results_of(runs)
    assert [(row[0], row[1]) for row in tables.over_folds(results).rows] == [
        ("1", "good"), ("2", "bad"), (NOTHING, "half")
    ]  # fmt: skip
    assert {pair.first for pair in compare_with_first(results)} == {"good"}
    # A single one that is ahead is the quickest of a sweep: its folds put nobody behind.
    two = results_of(runs[:3])
    assert [row[:2] for row in tables.over_folds(two).rows] == [["1", "half"], ["2", "good"]]


def test_seeds_are_averaged_within_their_fold(tmp_path):
    runs = [write_run(tmp_path, fold=0, seed=s) for s in range(2)] + [write_run(tmp_path, fold=1)]
    result = results_of(runs)[0]
    aca = [np.mean(targets == outputs) for _, targets, outputs, _ in runs]
    folds = [(aca[0] + aca[1]) / 2, aca[2]]
    assert result.measures["aca"] == pytest.approx((np.mean(folds), np.std(folds, ddof=1), 2))
    assert any("1-2 seeds a fold" in note for note in tables.over_folds([result]).notes)


def test_a_class_absent_from_a_fold_is_left_out_of_its_mean(tmp_path):
    whole = write_run(tmp_path, fold=0)
    part = write_run(tmp_path, fold=1, rows=cells_of_fold(1, present=range(4)))
    result = results_of([whole, part])[0]
    last = whole[1] == 4
    recall = (whole[2][last] == 4).mean()
    assert result.recalls[4].mean == pytest.approx(recall)
    assert result.recalls[4].folds == 1
    assert tables.recalls([result]).rows[0][5] == f"{100 * recall:.2f}"
    note = "folds without a test cell of centromere (1 of 2)"
    assert any(note in text for text in tables.over_folds([result]).notes)
    never = write_run(tmp_path, "other", 1, rows=cells_of_fold(1, present=[0]))
    assert tables.recalls(results_of([never])).rows[0][2:] == ["–"] * 4  # noqa: RUF001


def test_unknown_specimens_have_figures_without_intervals(tmp_path):
    rows = [(name, "", target) for name, _, target in cells_of_fold(0)]
    run = write_run(tmp_path, rows=rows)
    result = results_of([run])[0]
    table = tables.pooled([result])
    assert table.rows[0][1] == f"{100 * reference.balanced_accuracy_score(run[1], run[2]):.2f}"
    assert table.rows[0][5] == "–"  # noqa: RUF001
    assert "specimens of the cells are not known" in table.notes[0]
    assert "specimen_majority" not in result.measures


def test_one_specimen_a_class_has_no_interval_and_says_why(tmp_path):
    run = write_run(tmp_path, rows=cells_of_fold(0, specimens_per_class=1))
    table = tables.pooled(results_of([run]))
    assert "[" not in table.rows[0][1]
    assert "a single test specimen" in table.notes[0]


def test_ranked_by_mca(tmp_path):
    runs = [
        write_run(tmp_path, method, fold, accuracy=accuracy)
        for method, accuracy in (("poor", 0.3), ("good", 0.95), ("fair", 0.6))
        for fold in range(2)
    ]
    table = tables.over_folds(results_of(runs))
    assert [row[:2] for row in table.rows] == [["1", "good"], ["2", "fair"], ["3", "poor"]]


def test_protocol_leak_and_synthetic_stand_in_caption_and_headings(tmp_path):
    run = write_run(tmp_path, protocol="random", leaky=True)
    results = results_of([run])
    every = [tables.over_folds, tables.pooled, tables.recalls, tables.secondary]
    for table in [build(results) for build in every]:
        assert "synthetic" in table.caption and "simulated" in table.caption
        assert "random-leaky" in table.caption and "leaky: cells of one specimen" in table.caption
        figures = [name for name in table.heading if "%" in name or "kappa" in name]
        assert figures and all("(random-leaky)" in name for name in figures)


def test_comparison_on_the_same_cells(tmp_path):
    runs = {
        name: [write_run(tmp_path, name, fold, accuracy=accuracy) for fold in folds]
        for name, accuracy, folds in (("best", 0.95, (0, 1, 2)), ("next", 0.6, (1, 2, 3)))
    }
    other = write_run(tmp_path, "elsewhere", 0, rows=cells_of_fold(9), accuracy=0.1)
    results = results_of([*runs["best"], *runs["next"], other])
    (pair,) = compare_with_first(results)  # `elsewhere` tests other cells
    assert (pair.first, pair.second, pair.folds) == ("best", "next", 2)
    both = [np.concatenate([run[i] for run in runs["best"][1:]]) for i in (1, 2)]
    theirs = np.concatenate([run[2] for run in runs["next"][:2]])
    assert pair.difference.estimate == pytest.approx(
        reference.balanced_accuracy_score(*both)
        - reference.balanced_accuracy_score(both[0], theirs)
    )
    gains = ((both[1] == both[0]).astype(int) - (theirs == both[0])).reshape(-1, 8).sum(axis=1)
    assert (pair.signs.better, pair.signs.worse) == ((gains > 0).sum(), (gains < 0).sum())
    untied = int((gains != 0).sum())
    assert pair.signs.p == pytest.approx(binomtest(int((gains > 0).sum()), untied).pvalue)
    assert pair.p_holm == pair.signs.p
    row = tables.comparisons(results[0].group.first, [pair]).rows[0]
    assert row[0] == "next" and row[1].startswith("+") and row[2] == "2"


def test_methods_on_other_data_are_marked_and_not_compared(tmp_path):
    runs = [write_run(tmp_path, "a"), write_run(tmp_path, "b", data_key="e" * 16)]
    results = results_of(runs)
    assert compare_with_first(results) == []
    assert "not run on the same data" in tables.over_folds(results).notes[1]


def test_csv_is_tidy_and_runs_no_formula(tmp_path):
    classes = ["=1+1", "+a", "-b", "@c", "plain"]
    runs = [write_run(tmp_path, fold=fold, classes=classes) for fold in range(2)]
    result = results_of(runs)[0]
    rows = list(csv.DictReader(io.StringIO(tidy.results_csv([result]))))
    by_metric = {row["metric"]: row for row in rows}
    assert len(by_metric) == len(rows)
    mca = by_metric["published/test/mca"]
    assert float(mca["mean"]) == pytest.approx(result.measures["mca"].mean, abs=1e-6)
    assert float(mca["sd"]) == pytest.approx(result.measures["mca"].sd, abs=1e-6)
    assert float(mca["pooled_low"]) == pytest.approx(result.pooled["mca"].low, abs=1e-6)
    assert (mca["missing_folds"], mca["folds"], mca["synthetic"]) == ("2 3 4", "5", "true")
    assert "published/test/recall/=1+1" in by_metric
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    for begin in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20":  # OWASP's list; the last four are wide
        assert tidy.escape_formula(f"{begin}1") == f"'{begin}1"
    assert [tidy.escape_formula(name) for name in classes] == [
        "'=1+1",
        "'+a",
        "'-b",
        "'@c",
        "plain",
    ]


def test_spread_ignores_what_is_not_a_number():
    assert spread([0.5, float("nan"), 0.7]) == pytest.approx((0.6, np.sqrt(0.02), 2))
    assert spread([0.5]) == pytest.approx((0.5, np.nan, 1), nan_ok=True)
    assert np.isnan(spread([]).mean)


def test_markdown_and_text_of_a_table():
    table = Table("what", ["a|b", "c\n(d)"], [["1", "2"], ["long text", ""]], ["note"])
    assert table.as_markdown() == (
        "**what**\n\n| a\\|b | c (d) |\n| --- | --- |\n| 1 | 2 |\n| long text |  |\n\n- note\n"
    )
    assert table.as_text() == (
        "what\na|b        c\n           (d)\n---------  ---\n1          2\nlong text\n  note\n"
    )


def test_the_paper_s_two_figures_are_computed_and_both_said():
    diagonal = [91.07, 88.27, 86.42, 85.09, 93.19]
    assert pytest.approx(sum(diagonal) / 5) == published.PAPER_MEAN_RECALL
    assert np.allclose(published.PAPER_CONFUSION.sum(axis=0), 100)
    assert "88.08 %" in published.PAPER_STATEMENT and "88.81 %" in published.PAPER_STATEMENT
    assert PAPER_CLASSES == FIVE


def test_published_rows_stand_beside_the_same_data_and_protocol_only():
    ours = published.published_for("snphep2", "published")
    assert [(row.metric, row.value) for row in ours] == [
        ("total accuracy", 88.08), ("mean recall", 88.81), ("ACA", 80.6), ("ACA", 74.7),
        ("ACA", 67.6), ("ACA", 56.8), ("ACA", 42.6),
    ]  # fmt: skip
    assert published.published_for("synthetic", "published") == []
    either = [published.published_for("i3a", name) for name in ("pools", "public_split")]
    assert either[0] == either[1] != []
    assert published.published_for("i3a", "specimen") == []
    for row in published.ROWS:
        assert 0 < row.value < 100 and row.source and row.features
    table = tables.published("x", published.published_for("i3a", "random"))
    assert {row[3] for row in table.rows} == {"random-leaky"}


def test_report_of_synthetic_runs(tmp_path):
    for fold in range(2):
        write_reconstruction(tmp_path / "runs", fold)
        write_run(tmp_path / "runs", fold=fold)
    (tmp_path / "runs/default/synthetic-published/head-dcae-mlp/fold2/seed0").mkdir(parents=True)
    report = make_report("default", tmp_path / "runs", tmp_path / "reports")
    assert all(path.is_file() for path in report.files)
    names = {path.name for path in (tmp_path / "reports/default").iterdir()}
    stem = "confusion-synthetic-published-dcae-mlp"
    tables_and_page = {"results.csv", "results.md", "results.tex", "report.html", "figures"}
    assert names == {*tables_and_page, f"{stem}.png", f"{stem}.csv"}
    text = (tmp_path / "reports/default/results.md").read_text()
    assert text.startswith("# Results of default (synthetic cells)\n")
    assert published.PAPER_STATEMENT in text
    ours, _, others = text.partition("ANOTHER data set or protocol")
    assert "| 88.08 |" in others and "| 88.08 |" not in ours
    captions = re.findall(r"^\*\*(.*)\*\*$", text, re.MULTILINE)
    assert all("synthetic" in caption for caption in captions[:-1])


def test_report_of_real_runs_puts_the_paper_beside_them(tmp_path):
    write_run(tmp_path / "runs", data="snphep2", synthetic=False)
    make_report("default", tmp_path / "runs", tmp_path / "reports")
    text = (tmp_path / "reports/default/results.md").read_text()
    assert "synthetic" not in text
    ours, _, others = text.partition("ANOTHER data set or protocol")
    assert "| 88.08 |" in ours and "| 88.08 |" not in others


@pytest.mark.parametrize("begun", [0, 1])
def test_without_finished_runs_there_is_one_sentence_with_the_command(tmp_path, begun):
    write_run(tmp_path, name="other")
    if begun:
        path, *_ = write_run(tmp_path, name="mine")
        (path / "result.json").unlink()
    with pytest.raises(HEp2Error) as caught:
        make_report("mine", tmp_path, tmp_path / "reports")
    message = str(caught.value)
    assert "no finished run" in message and "there are runs of: other" in message
    command = "python train.py -m stage=dcae,head fold=0,1,2,3,4 name=mine"
    assert f"`{command} runs_dir={tmp_path}`" in message
    assert ("1 unfinished" in message) == bool(begun)
    assert not (tmp_path / "reports").exists()


def test_reconstructions_alone_are_nothing_to_report(tmp_path):
    write_reconstruction(tmp_path)
    with pytest.raises(HEp2Error, match="but of no stage that classifies"):
        make_report("default", tmp_path, tmp_path / "reports")
