import csv
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers.made_up_runs import FIVE, cells_of_fold, write_run
from helpers.results import keep
from PIL import Image

from hep2.evaluation import published
from hep2.evaluation.plots import answers
from hep2.evaluation.plots import confusion as figures
from hep2.evaluation.plots import methods as plots
from hep2.evaluation.plots import networks as training_plots
from hep2.evaluation.published import PAPER_CONFUSION
from hep2.evaluation.results import group_runs, rank, summarise_group
from hep2.programs import evaluate
from hep2.rundir.result import read_run


def result_of(*runs):
    return summarise_group(group_runs([read_run(run[0]) for run in runs])[0])


def test_columns_are_per_cent_of_the_target_class():
    shares = figures.column_per_cent(np.array([[3.0, 0, 1], [1, 0, 1], [0, 0, 2]]))
    assert shares[:, 0].tolist() == [75, 25, 0]
    assert np.isnan(shares[:, 1]).all()
    assert shares[:, 2].tolist() == [25, 25, 50]


def test_confusion_csv_by_hand(tmp_path):
    run = write_run(tmp_path, rows=cells_of_fold(0, present=range(4)))
    rows = list(csv.reader(io.StringIO(figures.confusion_csv(result_of(run)))))
    assert rows[0][1:] == list(FIVE)
    assert "synthetic published" in rows[0][0]
    assert rows[-1] == ["target cells", "24", "24", "24", "24", "0"]
    for output in range(5):
        assert rows[1 + output][0] == FIVE[output]
        for target in range(4):
            share = np.mean(run[2][run[1] == target] == output)
            assert float(rows[1 + output][1 + target]) == pytest.approx(100 * share, abs=1e-4)
        assert rows[1 + output][5] == ""


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is written as PNG, and by how much what is drawn leaves it."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig

    def spy(figure, *args, format, **kwargs):
        save(figure, *args, format=format, **kwargs)
        if format == "png":
            figures.append((figure, overhang(figure)))

    monkeypatch.setattr(Figure, "savefig", spy)
    return figures


def overhang(figure):
    """By how many inches what is drawn leaves the figure."""
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


def drawn_texts(drawn, result):
    """The texts of the picture, one list a panel: title first, then the cells by row."""
    figures.confusion_picture(result, large=True)
    return [[axes.get_title(), *(t.get_text() for t in axes.texts)] for axes in drawn[0][0].axes]


def test_nothing_leaves_its_picture(tmp_path, drawn):
    names = {"data": "snphep2", "protocol": "public_split", "leaky": True}
    run = write_run(tmp_path, method="dcae_gradient-mlp_small", **names)
    keep(run[0], curves={"train/loss": [[0, 1.0], [1, 0.5]]})
    result = result_of(run)
    figures.confusion_picture(result, large=True)
    figures.confusion_picture(result)
    figures.paper_picture()
    plots.ranking([result], published.published_for("snphep2", "published"))
    plots.specimen_strips(result)
    answers.reliability(result)
    training_plots.learning_curves([result.group.first])
    assert len(drawn) == 7
    for figure, inches in drawn:
        assert inches < 0.01, [axes.get_title() or axes.get_xlabel() for axes in figure.axes]


def test_what_labels_are_worth_is_drawn_where_it_was_tried(tmp_path, drawn):
    def results(*runs):
        return rank([summarise_group(group) for group in group_runs(map(read_run, runs))])

    whole = [write_run(tmp_path, method=name)[0] for name in ("dcae-mlp", "cnn")]
    assert plots.label_efficiency(results(*whole)) == []
    few = [
        write_run(tmp_path, method=f"dcae-mlp-{k}specimens", labelled=k, accuracy=0.4 + k / 10)[0]
        for k in (1, 4)
    ]
    every = results(*whole, *few)
    (picture,) = plots.label_efficiency(every)
    assert picture.stem == "labels-synthetic-published"
    (axes,) = drawn[-1][0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "4", "all"]
    (line,) = axes.lines  # cnn was not tried with few labels
    assert line.get_label() == "dcae-mlp"
    wanted = {result.method: 100 * result.pooled["mca"].estimate for result in every}
    names = ("dcae-mlp-1specimens", "dcae-mlp-4specimens", "dcae-mlp")
    assert line.get_ydata().tolist() == pytest.approx([wanted[name] for name in names])
    assert drawn[-1][1] < 0.01


def test_the_paper_stands_beside_its_own_classes_marked_as_published(tmp_path, drawn):
    run = write_run(tmp_path)
    ours, paper = drawn_texts(drawn, result_of(run))
    assert "SYNTHETIC" in ours[0] and "published" in ours[0] and "1 of 5 folds" in ours[0]
    aca = np.mean(run[1] == run[2])
    assert f"ACA {100 * aca:.2f} %" in ours[0]
    first = [np.mean(run[2][run[1] == target] == 0) for target in range(5)]
    assert ours[1:6] == [f"{100 * share:.2f}" for share in first]  # row = output class 0
    assert paper[0].startswith("PUBLISHED") and "real cells of SNPHEp-2" in paper[0]
    assert "88.08 %" in paper[0] and "88.81 %" in paper[0]
    assert paper[1:] == [f"{share:.2f}" for share in PAPER_CONFUSION.ravel()]


def test_other_classes_stand_alone_and_leaks_are_named(tmp_path, drawn):
    classes = ["a", "b$c", "golgi"]
    run = write_run(tmp_path, classes=classes, protocol="random", leaky=True, data="i3a",
                    synthetic=False, rows=cells_of_fold(0, classes, present=[0, 1]))  # fmt: skip
    (ours,) = drawn_texts(drawn, result_of(run))
    assert "cells of i3a" in ours[0] and "random-leaky" in ours[0]
    assert "synthetic" not in ours[0].lower()
    assert ours[3::3] == ["–"] * 3  # noqa: RUF001


def test_the_picture_is_a_png_and_the_same_every_time(tmp_path):
    result = result_of(write_run(tmp_path))
    picture = figures.confusion_picture(result, large=True).png
    assert picture == figures.confusion_picture(result, large=True).png
    image = Image.open(io.BytesIO(picture))
    assert image.format == "PNG"
    assert image.width > 1.9 * image.height  # two panels


def test_the_command_prints_the_table_and_leaves_no_other_file(tmp_path, in_process):
    write_run(tmp_path / "runs", name="x")
    code, out, err = in_process(evaluate.main, "evaluate.py", "name=x")
    assert code == 0, err
    assert out.startswith("runs/x: finished 1\n\n")
    assert "MCA %" in out and "reports/x/results.md" in out
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "reports"}


def test_the_command_fails_in_one_sentence(in_process):
    code, _, err = in_process(evaluate.main, "evaluate.py", "name=nothing")
    assert code == 1
    assert err.startswith("error: runs/nothing has no finished run")
    assert err.count("\n") == 1


def test_a_misspelt_key_is_an_error(tmp_path):
    command = [sys.executable, str(ROOT / "evaluate.py"), "nmae=x"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nmae" in done.stderr and "Traceback" not in done.stderr
