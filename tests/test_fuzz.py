"""Every door to the outside, tried with spoilt files: success or our own error, nothing else."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import Configure, composed
from helpers.made_up_runs import write_run
from helpers.mutations import Mutation, fuzzed, spoilt
from helpers.small_fields import BOXES, field_of, labels_of, write_fields
from helpers.small_sets import write_image
from helpers.tiffs import WHITE_IS_ZERO, png, tiff
from omegaconf import OmegaConf
from PIL import Image

from hep2 import cli
from hep2.calls.calibration import Calibration, Limits
from hep2.calls.record import as_record
from hep2.data import sources
from hep2.data.fields import Cut, cut_field
from hep2.data.header import ImageError
from hep2.data.image_source import ImageSource
from hep2.data.images import load_cell
from hep2.data.patterns import ICAP, pattern_names
from hep2.data.protocols import fold_count, make_split
from hep2.data.scale import full_scale_of
from hep2.data.split_table import Columns
from hep2.data.store import open_cells
from hep2.errors import HEp2Error
from hep2.evaluation.audit_page import write_audit
from hep2.evaluation.results import group_runs
from hep2.evaluation.specimens import answers_of
from hep2.evaluation.split_audit import audit_table
from hep2.features.encoder import read_encoder
from hep2.features.extraction import cached
from hep2.nets.architectures import ENCODERS, build
from hep2.prediction.export import export
from hep2.prediction.fields import field_batches, find_fields
from hep2.prediction.loaded import load
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import run_path
from hep2.rundir.result import read_run
from hep2.stages.tuning import Trials

pytestmark = pytest.mark.filterwarnings("ignore")

NETWORK = {"image_size": 16, "widths": [2, 4]}
PROVENANCE = {"data": "0" * 16, "split": "1" * 16, "protocol": "specimen", "fold": 0, "seed": 0}


def records(text: bytes) -> int:
    """Lines of a CSV below its header that are not empty."""
    lines = csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True)
    return sum(any(field.strip() for field in line) for line in lines) - 1


def random_images(folder: Path, count: int) -> list[str]:
    names = [f"{number:05d}.png" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return names


def csv_door(
    folder: Path, name: str, valid: str, open_source: Callable[[], ImageSource], every_row: bool
) -> Callable[[list[Mutation]], None]:
    """A CSV of a data set. Where it names the cells, no row of it is passed over in silence."""

    def door(changes: list[Mutation]) -> None:
        content = spoilt(valid.encode(), changes)
        (folder / name).write_bytes(content)
        try:
            source = open_source()
            count = len(list(source.images(16, "green")))
        except HEp2Error as error:
            assert len(str(error)) < 50_000
            return
        assert count == len(source.rows)
        assert not every_row or count == records(content)

    (folder / name).write_text(valid)
    assert len(list(open_source().images(16, "green"))) == 8
    return door


def test_manifest(tmp_path: Path) -> None:
    rows = [
        f"{name},{'ab'[i % 2]},s{i // 2},{['train', 'test'][i // 4]}"
        for i, name in enumerate(random_images(tmp_path, 8))
    ]
    valid = "\n".join(["image,label,specimen,pool", *rows, ""])
    fuzzed(csv_door(tmp_path, "manifest.csv", valid, lambda: sources.manifest(str(tmp_path)), True))


def test_joined_sources(tmp_path: Path) -> None:
    """Whatever a manifest says: one source is tested, and nothing of it is learned from."""
    rows = [
        f"{name},{'ab'[i % 2]},s{i // 2 % 2},{['near', 'far'][i // 4]}"
        for i, name in enumerate(random_images(tmp_path, 8))
    ]
    valid = "\n".join(["image,label,specimen,source", *rows, ""])

    def door(changes: list[Mutation]) -> None:
        (tmp_path / "manifest.csv").write_bytes(spoilt(valid.encode(), changes))
        try:
            cells = open_cells(sources.manifest(str(tmp_path)), tmp_path / "cache", 16, "green")
            splits = [make_split(cells, "source", fold, 0, 0, 0)
                      for fold in range(fold_count("source", 0, cells))]  # fmt: skip
        except HEp2Error as error:
            assert len(str(error)) < 50_000
            return
        finally:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        for split in splits:
            assert len(set(cells.sources[split.test])) == 1
            for names in (cells.sources, cells.specimens):
                assert not set(names[split.test]) & (set(names[split.train]) - {""})

    door([])
    fuzzed(door)


@pytest.mark.parametrize("sides", [["train", "test"], ["1", "2"]])
def test_audited_table(sides: list[str], tmp_path: Path) -> None:
    """Every row of a table is on a side, and what leaks in the rows is found."""
    rows = [
        f"{name},{'ab'[i % 2]},s{i // 2 % 2},{sides[i // 4]}"
        for i, name in enumerate(random_images(tmp_path, 8))
    ]
    title = {"train": "split", "1": "fold"}[sides[0]]
    valid = "\n".join([f"image,label,specimen,{title}", *rows, ""])
    file = tmp_path / "split.csv"

    def door(changes: list[Mutation]) -> None:
        content = spoilt(valid.encode(), changes)
        file.write_bytes(content)
        try:
            audit = audit_table(file, Columns())
        except HEp2Error as error:
            assert len(str(error)) < 50_000
            return
        cells = audit.table.cells
        assert len(cells) == records(content)
        for one in audit.findings:
            assert sorted([*one.held.learning, *one.held.test]) == list(range(len(cells)))
            shared = set(cells.specimens[one.held.learning]) & set(cells.specimens[one.held.test])
            assert one.shared is None if "" in cells.specimens else set(one.shared) == shared
        assert audit.leaks or not audit.shared
        write_audit(audit, tmp_path / "report")

    door([])
    fuzzed(door)


@pytest.mark.parametrize("spoiled", ["gt_training.csv", "specimens.csv"])
def test_contest_folder(spoiled: str, tmp_path: Path) -> None:
    numbers = [int(Path(name).stem) for name in random_images(tmp_path, 8)]
    tables = {
        "gt_training.csv": ["Image ID,Image class", *(f"{n},Golgi" for n in numbers)],
        "specimens.csv": ["Image ID,Specimen", *(f"{n},s{n % 3}" for n in numbers)],
    }
    for name, lines in tables.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    valid = (tmp_path / spoiled).read_text()
    whole = spoiled == "gt_training.csv"
    fuzzed(csv_door(tmp_path, spoiled, valid, lambda: sources.i3a(str(tmp_path)), whole))


TIFFS: dict[str, dict[str, Any]] = {
    "pages.tiff": {},
    "inverted.tiff": {"tags": WHITE_IS_ZERO, "order": ">"},
    "said.tiff": {"tags": {270: 'ImageJ=1.5\nmin=0\nmax=4095\nc0=0\nc1=1\nSignificantBits="12"'}},
}


def encoded(kind: str) -> bytes:
    grey = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    wide, colour = grey.astype(np.uint16) * 257, np.stack([grey, grey // 2, 255 - grey], axis=2)
    if kind in (".png16", ".tiff16"):
        return cv2.imencode(kind[:-2], wide)[1].tobytes()
    if kind in TIFFS:
        return tiff(*[wide, wide[::2]][: 1 + (kind == "pages.tiff")], **TIFFS[kind])
    if kind == "sbit.png":
        return png(wide // 16, (b"sBIT", b"\x0c"))
    if kind in (".tiff", ".jpg", ".bmp", ".png"):
        return cv2.imencode(kind, colour)[1].tobytes()
    buffer = io.BytesIO()
    image, options = Image.fromarray(grey), {}
    if kind == "palette.png":
        image = image.convert("P")
    if kind in ("deflate.tiff", "jpeg.tiff", "lzw.tiff", "raw.tiff"):
        names = {"deflate": "tiff_adobe_deflate", "lzw": "tiff_lzw", "jpeg": "jpeg", "raw": None}
        options = {"compression": names[kind.partition(".")[0]]}
    image.save(buffer, kind.rpartition(".")[2], **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind",
    [".png", ".png16", "palette.png", ".jpg", ".bmp", ".tiff", ".tiff16", "deflate.tiff",
     "lzw.tiff", "jpeg.tiff", "raw.tiff", "sbit.png", *TIFFS],
)  # fmt: skip
def test_image_decoder(kind: str, tmp_path: Path) -> None:
    valid, file = encoded(kind), tmp_path / "cell.image"
    page = 1 if kind == "pages.tiff" else None

    def door(changes: list[Mutation]) -> None:
        file.write_bytes(spoilt(valid, changes))
        try:
            scale = full_scale_of("x", lambda: [("cell", file)], "green", page)
            assert scale is None or 255 <= scale <= 65535
            cell = load_cell(file, 16, "green", page, scale or 65535)
        except ImageError as error:
            assert "\n" not in str(error)
            return
        assert cell.pixels.shape == (16, 16)
        assert cell.pixels.dtype in (np.uint8, np.uint16)

    file.write_bytes(valid)
    assert load_cell(file, 16, "green", page).pixels.shape == (16, 16)
    fuzzed(door)


@pytest.mark.parametrize("spoiled", ["images.npy", "cells.csv", "meta.json"])
def test_image_cache(spoiled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that was tampered with is built again: the cells are the same, whatever happens."""
    source = sources.synthetic(cells=40, specimens=10)
    good = open_cells(source, tmp_path, 16, "green")
    pixels = np.array(good.images)
    file = next(tmp_path.rglob(spoiled))
    valid = file.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a cache is built thousands of times

    def door(changes: list[Mutation]) -> None:
        file.write_bytes(spoilt(valid, changes))
        cells = open_cells(source, tmp_path, 16, "green")
        assert (cells.key, list(cells.ids)) == (good.key, list(good.ids))
        assert np.array_equal(cells.images, pixels)
        assert np.array_equal(cells.labels, good.labels)
        assert list(cells.specimens) == list(good.specimens)

    fuzzed(door)


def test_feature_cache(tmp_path: Path) -> None:
    """Damaged features are computed again, also where only their values changed."""
    matrix = np.random.default_rng(0).random((6, 2, 5)).astype(np.float32)

    def fill(out: np.ndarray) -> None:
        out[:] = matrix

    cached(tmp_path, "key", matrix.shape, fill)
    file = tmp_path / "features-key.npy"
    valid = file.read_bytes()

    def door(changes: list[Mutation]) -> None:
        file.write_bytes(spoilt(valid, changes))
        assert np.array_equal(cached(tmp_path, "key", matrix.shape, fill), matrix)

    fuzzed(door)


@pytest.fixture
def fitted_run(configure: Configure) -> RunDir:
    """One that keeps something beside networks."""
    return fit(configure("stage=head", "features=pixels", "head=knn"))


@pytest.mark.parametrize("door", ["fitted.ckpt", "model.hep2"])
def test_what_a_run_has_kept(door: str, fitted_run: RunDir, tmp_path: Path) -> None:
    """It predicts what it did, or it is refused: the file in the run, and the run as a file."""
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    expected = load(fitted_run.path).predict(images).filter(regex="^p_").to_numpy()
    file, run = fitted_run.fitted, fitted_run.path
    if door == "model.hep2":
        file, run = [export(str(run), tmp_path, str(tmp_path / door), None)[0]] * 2
    valid = file.read_bytes()

    def spoiled(changes: list[Mutation]) -> None:
        file.write_bytes(spoilt(valid, changes))
        try:
            found = load(run).predict(images).filter(regex="^p_").to_numpy()
        except HEp2Error as error:
            assert changes and len(str(error)) < 5_000
            return
        assert np.array_equal(found, expected)

    spoiled([])
    fuzzed(spoiled)


def test_checkpoint(tmp_path: Path) -> None:
    """A checkpoint is refused, or its weights are those that were saved: none is changed."""
    encoder = build(ENCODERS, "dcae", **NETWORK)
    weights = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    hyper = {"architecture": "dcae", "network": NETWORK, "provenance": PROVENANCE}
    file = tmp_path / "best.ckpt"
    torch.save({"state_dict": weights, "hyper_parameters": hyper}, file)
    valid = file.read_bytes()

    def door(changes: list[Mutation]) -> None:
        file.write_bytes(spoilt(valid, changes))
        try:
            checkpoint = read_encoder(file, PROVENANCE, "train it")
            other = build(ENCODERS, checkpoint.architecture, **checkpoint.network)
            checkpoint.load_into(other)
        except HEp2Error as error:
            assert changes and len(str(error)) < 5_000  # what is whole is read
            return
        found = other.state_dict()
        assert all(torch.equal(value, found[key]) for key, value in encoder.state_dict().items())

    door([])
    fuzzed(door)


@pytest.mark.parametrize("spoiled", ["predictions.csv", "held_out.csv", "result.json"])
def test_finished_run(spoiled: str, tmp_path: Path) -> None:
    """A run that is read has every cell of its file, and figures that are its predictions'."""
    rows = [(f"c{i}", f"s{i // 2}", i % 5) for i in range(20)]
    path = write_run(tmp_path, rows=rows)[0]
    limits = Limits(0.1, np.full(5, 0.5), np.full(5, np.inf), np.zeros(5, dtype=np.bool_))
    learned = Calibration(0.7, "made up", 20, 400, (limits,), 0.3, 10)
    result = json.loads((path / "result.json").read_text())
    result["calibration"] = as_record(learned, result["classes"])
    (path / "result.json").write_text(json.dumps(result))
    shutil.copy(path / "predictions.csv", path / "held_out.csv")  # of the same form
    valid = (path / spoiled).read_bytes()

    def door(changes: list[Mutation]) -> None:
        content = spoilt(valid, changes)
        (path / spoiled).write_bytes(content)
        try:
            groups = group_runs([read_run(path)])
            known = [group.first.calibration for group in groups]
            said = [answers_of(group) for group in groups]
        except HEp2Error as error:
            assert len(str(error)) < 50_000
            return
        assert all(np.isfinite(one.scaled(np.eye(5))).all() for one in known if one)
        assert all(0 <= one.said.probability <= 1 for found in said if found for one in found.every)
        for group in groups:
            assert len(group.missing_folds) == group.first.folds - 1
            assert len(group.first.cells.ids) == 20
            assert np.isfinite(group.first.cells.probabilities).all()

    door([])
    fuzzed(door)


def test_stored_configuration(tmp_path: Path) -> None:
    """`config.yaml` of a run that is to be resumed: the same settings, or a refusal."""
    asked = composed(f"runs_dir={tmp_path}", "logger=csv")
    run = RunDir(run_path(asked))
    run.claim(asked)
    run.last.touch()
    valid = run.config.read_bytes()

    def door(changes: list[Mutation]) -> None:
        run.config.write_bytes(spoilt(valid, changes))
        try:
            run.claim(asked)
        except HEp2Error as error:
            assert str(run.path) in str(error)

    door([])
    fuzzed(door)


def test_tuning_record(tmp_path: Path) -> None:
    """`tuning.json` of a run that is to be resumed: its figures, or none and the trials again."""
    cfg, run, settings = composed(), RunDir(tmp_path), {"stage.optimizer.lr": 1e-2}
    Trials(run, cfg).note(settings, 0, -0.25)
    valid = run.tuning.read_bytes()

    def door(changes: list[Mutation]) -> None:
        run.tuning.write_bytes(spoilt(valid, changes))
        figure = Trials(run, cfg).score(settings, 0)
        assert figure is None or not np.isnan(figure)

    door([])
    fuzzed(door)


OVERRIDES = (
    "stage=head fold=1 seed=2 name=x model=dcae_small data.source.cells=100 encoder=null "
    "model.network.widths=[8,16] stage.optimizer.lr=1e-3 +trainer.limit_train_batches=2 "
    "~callbacks.progress data.root=/data/cells logger=csv protocol=published"
)


def test_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    """What Hydra cannot read, or we cannot use, is said in one sentence."""

    def door(changes: list[Mutation]) -> None:
        words = spoilt(OVERRIDES.encode(), changes).decode(errors="surrogateescape").split(" ")
        try:
            cfg = composed(*(word for word in words if word))
        except Exception as error:  # whatever Hydra raises: cli.main explains it
            sentence = cli.explained(error)
            assert sentence
            assert "\n" not in sentence
            return
        capsys.readouterr()
        try:
            with cli.clear_errors():
                assert run_path(cfg).relative_to(cfg.runs_dir).parts[0] == str(cfg.name)
                OmegaConf.to_container(cfg, resolve=True)
        except SystemExit as error:
            said = capsys.readouterr().err
            assert error.code == 1
            assert said.startswith("error: ")
            assert said.count("\n") == 1

    door([])
    fuzzed(door)


def test_mask(tmp_path: Path) -> None:
    """A mask that is spoilt is a mask of the same shape, or none, and never an error."""
    names = random_images(tmp_path, 8)
    file = tmp_path / "00001_Mask.png"
    Image.fromarray(np.eye(12, dtype=np.uint8) * 255).save(file)
    valid, rows = file.read_bytes(), [f"{name},{'ab'[i % 2]},s{i}" for i, name in enumerate(names)]
    rows = [f"{row},{file.name if row.startswith('00001') else ''}" for row in rows]
    (tmp_path / "manifest.csv").write_text("\n".join(["image,label,specimen,mask", *rows]))

    def door(changes: list[Mutation]) -> None:
        file.write_bytes(spoilt(valid, changes))
        first, *others = sources.manifest(str(tmp_path)).masks(16) or ()
        assert first.shape == (16, 16) and set(np.unique(first)) <= {0, 255}
        assert len(others) == 7 and not np.any(others)

    door([])
    fuzzed(door)


@pytest.mark.parametrize("spoiled", ["cells.csv", "training/gt_training.csv", "test/gt_test.csv"])
def test_mivia(spoiled: str, tmp_path: Path) -> None:
    base = tmp_path / "ICPR2012_Cells_Classification_Contest"
    for folder in ("training", "test"):
        for number in range(1, 5):
            write_image(base / folder / f"{number:03d}.png")
        labels = [f"{n};{'nucleolar' if n % 2 else 'centromere'}" for n in range(1, 5)]
        (base / folder / f"gt_{folder}.csv").write_text("\n".join(["id;pattern", *labels]))
    cells = [
        f"{n};{folder};{n % 2 + 2 * place};positive;0;{'nucleolar' if n % 2 else 'centromere'}"
        for place, folder in enumerate(("training", "test"))
        for n in range(1, 5)
    ]
    valid = "\n".join(["id;set;image;intensity;x;pattern", *cells])
    (base / "cells.csv").write_text(valid)
    door_of = csv_door(
        base, spoiled, (base / spoiled).read_text(), lambda: sources.mivia(str(base)), False
    )
    fuzzed(door_of)


@pytest.mark.parametrize(
    "spoiled", ["field.png", "mask.png", "mask16.png", "mask.tif", "mask32.tif"]
)
def test_field(spoiled: str, tmp_path: Path) -> None:
    """A field or a mask that is spoilt: cells of the right size, or one sentence."""
    field, mask = tmp_path / "field.png", tmp_path / spoiled
    Image.fromarray(labels_of(np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(labels_of(np.uint16)).save(tmp_path / "mask16.png")
    Image.fromarray(labels_of(np.uint16)).save(tmp_path / "mask.tif", compression="tiff_lzw")
    Image.fromarray(labels_of(np.int32)).save(tmp_path / "mask32.tif")
    Image.fromarray(field_of(0)).save(field)
    mask = tmp_path / "mask.png" if spoiled == "field.png" else mask
    valid = (tmp_path / spoiled).read_bytes()

    def door(changes: list[Mutation]) -> None:
        (tmp_path / spoiled).write_bytes(spoilt(valid, changes))
        try:
            made = cut_field(field, mask, 16, "green", None, 65535, Cut())
        except ImageError as error:
            assert "\n" not in str(error)
            return
        called = [cell for cell in made.cells if not cell.problem]
        assert made.images.shape == (len(called), 16, 16)
        assert len({cell.label for cell in made.cells}) == len(made.cells) > 0
        assert changes or [cell.label for cell in made.cells] == sorted(BOXES)

    door([])
    fuzzed(door)


def test_table_of_fields(tmp_path: Path) -> None:
    """Every row of a table of fields has its cells, or the reason why it has none."""
    write_fields(tmp_path, "a", "b", "c")
    rows = [f"fields/{name}.png,masks/{name}_cp_masks.png,s{name}" for name in "abc"]
    valid, file = "\n".join(["image,mask,specimen", *rows, ""]).encode(), tmp_path / "fields.csv"

    def door(changes: list[Mutation]) -> None:
        content = spoilt(valid, changes)
        file.write_bytes(content)
        try:
            found = find_fields(str(file), "mask")
        except HEp2Error as error:
            assert len(str(error)) < 50_000
            return
        assert len(found) == records(content)
        made = list(field_batches(found, 16, "green", None, 65535, Cut()))
        assert [batch.field for batch in made] == found
        assert all(batch.problems and len(batch.cells) == len(batch.problems) for batch in made)
        assert all(len(batch.image) == batch.problems.count("") for batch in made)

    door([])
    fuzzed(door)


def test_names_of_patterns(tmp_path: Path) -> None:
    """A mapping that is spoilt is refused in one sentence, or gives texts and no more."""
    file, valid = tmp_path / "names.yaml", ICAP.read_bytes()

    def door(changes: list[Mutation]) -> None:
        file.write_bytes(spoilt(valid, changes))
        try:
            names = pattern_names(str(file))
        except HEp2Error as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
            return
        assert names.codes("homogeneous") is not None

    door([])
    fuzzed(door)
