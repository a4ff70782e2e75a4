"""Predictions on other cells are those of the run's own networks on the training's own images."""

import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.results import keep, rows_of
from helpers.tiffs import tiff, write
from helpers.trained_runs import CLASSES, write_pair

from hep2.data.cells import Cells
from hep2.data.images import load_cell
from hep2.data.inputs import CellImages
from hep2.data.views import in_unit_range, oriented
from hep2.errors import HEp2Error
from hep2.prediction import cells as prediction_cells
from hep2.prediction.predict import predict


def draw(count, side=16, seed=0, dtype=np.uint8):
    """Noise from dark to bright, half of it on one side, so that networks tell the images apart."""
    noise = np.random.default_rng(seed).random((count, side, side))
    noise *= np.linspace(20, 255, count)[:, None, None]
    noise[1::2, :, : side // 2] *= 0.1
    return noise.astype(np.uint8).astype(dtype)


def write_images(folder, images, prefix="c"):
    folder.mkdir(parents=True, exist_ok=True)
    for place, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{prefix}{place:03d}.png"), image)
    return folder


def shares(rows):
    return np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])


def own_shares(task, images, turns=1, view="intensity"):
    """By the networks themselves, from the images as training gives them; features are averaged."""
    cells = Cells(images[:, None], *(np.array([""] * len(images)),) * 4, CLASSES, "x", "y")
    batch = CellImages(cells, view=view).gather(np.arange(len(images)), epoch=None)
    with torch.inference_mode():
        features = sum(task.encoder(oriented(batch, turn)) for turn in range(turns)) / turns
        return task.head(features).double().softmax(dim=1).numpy()


def ask(tmp_path, images, run="default", orientations=1):
    out = tmp_path / "calls.csv"
    summary = predict(run, tmp_path / "runs", str(images), str(out), orientations)
    return summary, rows_of(out)


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images", draw(9))


@pytest.mark.parametrize("validation", ["", "too few specimens"])
def test_one_fold_gives_the_networks_own_probabilities(tmp_path, folder, validation):
    path, task = write_pair(tmp_path / "runs", validation=validation)
    _, rows = ask(tmp_path, folder, run=str(path))
    assert [row["id"] for row in rows] == [f"c{i:03d}.png" for i in range(9)]
    expected = own_shares(task, draw(9))
    np.testing.assert_allclose(shares(rows), expected, atol=1e-6)
    outputs = [CLASSES[i] for i in expected.argmax(axis=1)]
    assert [row["output"].removeprefix("'") for row in rows] == outputs
    assert len({row["output"] for row in rows}) > 1


def test_all_folds_are_an_ensemble(tmp_path, folder):
    tasks = [write_pair(tmp_path / "runs", fold)[1] for fold in range(3)]
    _, rows = ask(tmp_path, folder)
    expected = np.mean([own_shares(task, draw(9)) for task in tasks], axis=0)
    np.testing.assert_allclose(shares(rows), expected, atol=1e-6)


def test_features_of_eight_orientations_are_averaged_and_make_turns_irrelevant(tmp_path, folder):
    _, task = write_pair(tmp_path / "runs")
    _, rows = ask(tmp_path, folder, orientations=8)
    expected = own_shares(task, draw(9), turns=8)
    np.testing.assert_allclose(shares(rows), expected, atol=1e-6)
    turned_folder = write_images(tmp_path / "turned", np.rot90(draw(9), axes=(1, 2))[:, :, ::-1])
    _, same = ask(tmp_path, turned_folder, orientations=8)
    np.testing.assert_allclose(shares(same), shares(rows), atol=1e-6)
    _, other = ask(tmp_path, turned_folder, orientations=1)
    assert np.abs(shares(other) - shares(rows)).max() > 1e-3


def test_a_run_is_used_with_the_orientations_that_it_was_tested_with(tmp_path, folder):
    path, _ = write_pair(tmp_path / "runs", orientations=8)
    told = {
        number: shares(ask(tmp_path, folder, orientations=number)[1]) for number in (None, 1, 8)
    }
    np.testing.assert_array_equal(told[None], told[8])
    assert np.abs(told[None] - told[1]).max() > 1e-3
    file = path / "best.ckpt"
    content = torch.load(file, weights_only=True)
    hparams = content["hyper_parameters"]
    hparams["test_orientations"] = hparams.pop("orientations")  # its name in earlier versions
    torch.save(content, file)
    np.testing.assert_array_equal(shares(ask(tmp_path, folder, orientations=None)[1]), told[8])
    del hparams["test_orientations"]  # one of before says nothing: tested on cells as they are
    torch.save(content, file)
    np.testing.assert_array_equal(shares(ask(tmp_path, folder, orientations=None)[1]), told[1])


@pytest.mark.parametrize("wrong", [0, 9, "8", [1], True])
def test_a_checkpoint_s_orientations_are_checked(tmp_path, folder, wrong):
    write_pair(tmp_path / "runs", orientations=wrong)
    with pytest.raises(HEp2Error, match="from 1 to 8"):
        ask(tmp_path, folder, orientations=None)


def test_folds_that_were_tested_differently_are_not_averaged_unasked(tmp_path, folder):
    for fold in range(2):
        write_pair(tmp_path / "runs", fold, orientations=1 + fold)
    with pytest.raises(HEp2Error, match=r"different numbers of orientations: give orientations="):
        ask(tmp_path, folder, orientations=None)
    ask(tmp_path, folder, orientations=2)


def test_sizes_and_bit_depths_are_treated_as_in_training(tmp_path):
    _, task = write_pair(tmp_path / "runs")
    large = draw(3, side=40, dtype=np.uint16) * 257
    folder = write_images(tmp_path / "images", [*large, draw(1, side=16)[0], draw(1, 30)[0, :20]])
    _, rows = ask(tmp_path, folder)
    for row, file in zip(rows, sorted(folder.iterdir()), strict=True):
        pixels = load_cell(file, 16, "green").pixels
        np.testing.assert_allclose(shares([row]), own_shares(task, pixels[None]), atol=1e-6)


def learned_from(path, full_scale=None, page=None):
    """Make a finished run say what was white in its images, and which page they were."""
    keep(path, full_scale=full_scale)
    if page is not None:
        config = (path / "config.yaml").read_text()
        (path / "config.yaml").write_text(f"{config}  page: {page}\n")


def of_bits(images, bits):
    return np.round(images * (((1 << bits) - 1) / 255)).astype(np.uint16)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("learned", [255, "same"])
def test_deep_images_are_named_as_in_training(tmp_path, folder, learned, bits, caplog):
    caplog.set_level("INFO")
    scale = (1 << bits) - 1
    learned_from(write_pair(tmp_path / "runs")[0], scale if learned == "same" else learned)
    _, expected = ask(tmp_path, folder)
    _, rows = ask(tmp_path, write_images(tmp_path / "deep", of_bits(draw(9), bits)))
    np.testing.assert_allclose(shares(rows), shares(expected), atol=0.02)
    assert f"{scale} is taken for white in 16-bit images" in caplog.text


@pytest.mark.parametrize(
    ("learned", "bits", "remedies"),
    [
        (65535, 12, (4095, 65535)),
        (4095, 10, (1023, 4095)),
        (4095, 16, (65535,)),
        (None, 12, (4095, 65535)),  # a run that does not say
    ],
)
def test_another_scale_than_training_is_refused_or_said(tmp_path, learned, bits, remedies):
    learned_from(write_pair(tmp_path / "runs")[0], learned)
    folder = write_images(tmp_path / "deep", of_bits(draw(9), bits))
    with pytest.raises(HEp2Error, match=f"look as if {(1 << bits) - 1} were white") as error:
        ask(tmp_path, folder)
    said = [int(number) for number in re.findall(r"data\.full_scale=(\d+)", str(error.value))]
    assert said == list(remedies)
    for number in said:
        out = tmp_path / "calls.csv"
        predict("default", tmp_path / "runs", str(folder), str(out), 1, full_scale=number)
        pixels = [load_cell(file, 16, "green", None, number).pixels for file in folder.iterdir()]
        assert len(rows_of(out)) == len(pixels) and not any(r["problem"] for r in rows_of(out))


def test_a_run_that_does_not_say_takes_full_16_bits_as_before(tmp_path):
    _, task = write_pair(tmp_path / "runs")
    deep = of_bits(draw(9), 16)
    _, rows = ask(tmp_path, write_images(tmp_path / "deep", deep))
    np.testing.assert_allclose(shares(rows), own_shares(task, deep), atol=1e-6)


def test_a_mixture_is_refused(tmp_path, folder):
    learned_from(write_pair(tmp_path / "runs")[0], 255)
    write_images(folder, of_bits(draw(9), 12), prefix="d")
    with pytest.raises(HEp2Error, match=r"8 bits: 9 images, e\.g\. c000(.|\n)*4095: 9 images"):
        ask(tmp_path, folder)


def test_a_pixel_above_what_is_set_is_a_reason(tmp_path):
    write_pair(tmp_path / "runs")
    folder = write_images(tmp_path / "deep", [*of_bits(draw(8), 12), *of_bits(draw(9)[-1:], 16)])
    out = tmp_path / "calls.csv"
    predict("default", tmp_path / "runs", str(folder), str(out), 1, full_scale=4095)
    problems = [row["problem"] for row in rows_of(out)]
    assert problems[:8] == [""] * 8 and "above the full scale 4095" in problems[8]


@pytest.mark.parametrize(("trained", "asked"), [(1, None), (None, 1), (0, 1)])
def test_the_page_is_that_of_training_or_the_one_that_is_asked_for(tmp_path, trained, asked):
    path, task = write_pair(tmp_path / "runs")
    images = draw(9)
    for place, image in enumerate(images):
        write(tmp_path / f"pages/c{place:03d}.tif", tiff(255 - image, image))
    if trained is None:
        summary, rows = ask(tmp_path, tmp_path / "pages")
        assert summary.unreadable == 9
        assert all("2 pages; choose one with data.page=" in row["problem"] for row in rows)
    learned_from(path, 255, trained)
    out = tmp_path / "calls.csv"
    predict("default", tmp_path / "runs", str(tmp_path / "pages"), str(out), 1, page=asked)
    np.testing.assert_allclose(shares(rows_of(out)), own_shares(task, images), atol=1e-6)


def test_the_view_is_that_of_training(tmp_path, folder):
    _, task = write_pair(tmp_path / "runs", view="gradient")
    _, rows = ask(tmp_path, folder)
    expected = own_shares(task, draw(9), view="gradient")
    np.testing.assert_allclose(shares(rows), expected, atol=1e-6)
    assert np.abs(expected - own_shares(task, draw(9))).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_scaling_is_that_of_training_to_the_bit(dtype):
    pixels = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(1, 1, 16, -1)
    cells = Cells(pixels, *(np.array([""]),) * 4, CLASSES, "x", "y")
    expected = CellImages(cells).gather(np.array([0]), epoch=None).numpy()
    np.testing.assert_array_equal(in_unit_range(pixels), expected)


def test_batches_change_nothing(tmp_path, folder, monkeypatch):
    write_pair(tmp_path / "runs")
    _, whole = ask(tmp_path, folder)
    monkeypatch.setattr(prediction_cells, "BATCH", 2)
    _, parts = ask(tmp_path, folder)
    np.testing.assert_allclose(shares(parts), shares(whole), atol=1e-6)
    assert [row["id"] for row in parts] == [row["id"] for row in whole]


def test_unreadable_images_are_rows_with_a_reason(tmp_path, folder):
    write_pair(tmp_path / "runs")
    _, before = ask(tmp_path, folder)
    (folder / "c003.png").write_bytes(b"no image")
    summary, rows = ask(tmp_path, folder)
    assert (summary.cells, summary.unreadable) == (9, 1)
    assert "cannot be decoded" in rows[3]["problem"] and rows[3]["output"] == ""
    good = [*range(3), *range(4, 9)]
    # Smaller batches round differently.
    np.testing.assert_allclose(
        shares([rows[i] for i in good]), shares([before[i] for i in good]), atol=1e-6
    )


def test_spreadsheets_run_nothing(tmp_path):
    write_pair(tmp_path / "runs")
    folder = write_images(tmp_path / "images", draw(20), prefix="=cmd")
    _, rows = ask(tmp_path, folder)
    assert all(row["id"].startswith("'=cmd") for row in rows)
    outputs = {row["output"] for row in rows}
    assert "=speckled" not in outputs and outputs <= {"homogeneous", "'=speckled", "centromere"}


def test_cells_unlike_training_are_marked(tmp_path, folder):
    write_pair(tmp_path / "runs", limit=1.0)
    _, rows = ask(tmp_path, folder)
    errors = np.array([float(row["novelty"]) for row in rows])
    assert {row["unlike_training"] for row in rows} == {"no"} and (errors < 1).all()
    median = float(np.sort(errors)[4:6].mean())  # four cells lie beyond
    write_pair(tmp_path / "runs", limit=median)
    summary, rows = ask(tmp_path, folder)
    np.testing.assert_allclose([float(row["novelty"]) for row in rows], errors / median, rtol=1e-4)
    assert [row["unlike_training"] == "yes" for row in rows] == (errors > median).tolist()
    assert summary.unlike == 4


def test_an_autoencoder_with_another_encoder_is_no_judge(tmp_path, folder):
    path, _ = write_pair(tmp_path / "runs")
    write_pair(tmp_path / "other", seed=1)
    encoder = path.parents[2] / "dcae-dcae"
    shutil.rmtree(encoder)
    shutil.copytree(tmp_path / "other/default/toy-specimen/dcae-dcae", encoder)
    summary, rows = ask(tmp_path, folder)
    assert {row["novelty"] for row in rows} == {row["unlike_training"] for row in rows} == {""}
    assert summary.unlike == 0
    manifest = tmp_path / "cells.csv"
    manifest.write_text("image,specimen\n" + "".join(f"images/c{i:03d}.png,s\n" for i in range(9)))
    ask(tmp_path, manifest)
    (call,) = rows_of(tmp_path / "calls-specimens.csv")
    assert (call["cells"], call["unlike_training"]) == ("9", ""), "not known is not none"


def test_specimens_get_a_call_of_their_own(tmp_path, folder):
    write_pair(tmp_path / "runs")
    lines = [f"images/c{i:03d}.png,s{i % 2}" for i in range(9)]
    manifest = tmp_path / "cells.csv"
    manifest.write_text("\n".join(["image,specimen", *lines]))
    summary, rows = ask(tmp_path, manifest)
    calls = rows_of(tmp_path / "calls-specimens.csv")
    assert summary.files[1].name == "calls-specimens.csv"
    assert [(row["specimen"], row["cells"]) for row in calls] == [("s0", "5"), ("s1", "4")]
    for specimen, call in zip((0, 1), calls, strict=True):
        mean = shares(rows)[specimen::2].mean(axis=0)
        np.testing.assert_allclose(shares([call])[0], mean, atol=1e-6)
        assert call["output"].removeprefix("'") == CLASSES[int(mean.argmax())]
        votes = [row["output"] for row in rows[specimen::2]]
        best = max(votes.count(vote) for vote in votes)
        assert votes.count(call["output_by_majority"]) == best
        share = votes.count(call["output"]) / len(votes)
        assert float(call["share"]) == pytest.approx(share, abs=1e-3)
        assert float(call["share_low"]) <= share <= float(call["share_high"])
        each = {name: float(call[f"share_{name}"]) for name in CLASSES}
        assert each == pytest.approx({name: votes.count(name) / len(votes) for name in CLASSES},
                                     abs=1e-3)  # fmt: skip
        assert 0 < float(call["same_tenth"]) <= float(call["same_half"]) <= 1
        assert call["unlike_training"] == "0"
        assert (call["said"], call["reason"], call["set"], call["second"]) == ("yes", "", "", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "nothing"}, "holds no finished run that classifies"),
        ({"run": None}, "which run"),
        ({"images": "nowhere"}, "no such file or folder"),
        ({"images": None}, "which cells"),
        ({"out": None}, "where to"),
        ({"out": "calls.html"}, "out=calls.html: where to"),  # the page would be written over it
        ({"orientations": 9}, "from 1 to 8"),
    ],
)
def test_wrong_arguments_are_one_sentence(tmp_path, folder, change, message):
    write_pair(tmp_path / "runs")
    asked = {"run": "default", "runs_dir": tmp_path / "runs", "images": str(folder),
             "out": str(tmp_path / "x.csv"), "orientations": 1}  # fmt: skip
    with pytest.raises(HEp2Error, match=message):
        predict(**{**asked, **change})
    assert not (tmp_path / "x.csv").exists()


def test_the_list_of_cells_is_not_written_over(tmp_path, folder):
    write_pair(tmp_path / "runs")
    listed = folder / "calls.csv"
    listed.write_text(f"image\n{next(folder.glob('*.png')).name}\n")
    before = listed.read_text()
    with pytest.raises(HEp2Error, match=r"would take the place of images=.*: choose another out="):
        predict("default", tmp_path / "runs", str(listed), str(listed), 1)
    assert listed.read_text() == before


def test_several_methods_are_named(tmp_path, folder):
    write_pair(tmp_path / "runs")
    write_pair(tmp_path / "runs", method="dcae-linear")
    with pytest.raises(HEp2Error, match=r"several methods(.|\n)*head-dcae-linear(.|\n)*dcae-mlp"):
        ask(tmp_path, folder)


def test_a_damaged_checkpoint_is_named_and_runs_nothing(tmp_path, folder):
    path, _ = write_pair(tmp_path / "runs")
    (path / "best.ckpt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(HEp2Error, match=r"best\.ckpt is damaged or not a checkpoint"):
        ask(tmp_path, folder)


def test_a_failure_leaves_no_file(tmp_path, folder, monkeypatch):
    write_pair(tmp_path / "runs")
    (tmp_path / "calls.csv").write_text("before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hep2.prediction.predict.texts", fail)
    with pytest.raises(HEp2Error, match="No space left"):
        ask(tmp_path, folder)
    assert (tmp_path / "calls.csv").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
