"""Any finished run as one file: it predicts what the run does, and is refused when changed."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CHOOSING, TINY_DATA, Configure, Trained, composed
from helpers.trained_runs import write_pair, write_test_cells
from numpy.typing import NDArray

import hep2
from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.prediction.embed import embed
from hep2.prediction.export import export
from hep2.prediction.exporting.runs import LISTED
from hep2.prediction.predict import predict
from hep2.run import fit

CODEBOOK = ("stage=head", "features=codebook", "head=nch", "features.extractor.words=8",
            "features.extractor.sample=1000")  # fmt: skip
KNN = ("stage=head", "features=pixels", "head=knn")
ENSEMBLE = ("stage=ensemble", "stage.members=[head-pixels-knn,head-codebook-nch]")


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    file, said = export(str(trained.head.path), Path(), str(folder / "model.hep2"), None)
    assert "to the last bit" in said
    return file


@pytest.fixture
def handed_on(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported, tmp_path))


def images() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (5, 30, 24), dtype=np.uint8)


def same(file: Path, run: Path) -> None:
    """Through Python, to the last bit; the novelty as well."""
    there, here = hep2.load(run), hep2.load(file)
    table = there.predict(images())
    pd.testing.assert_frame_equal(here.predict(images()), table, check_exact=True)
    assert (here.classes, here.calibration is None) == (there.classes, there.calibration is None)
    named = table.assign(specimen="s")
    pd.testing.assert_frame_equal(here.specimens(named), there.specimens(named))


def test_a_network(handed_on: Path, trained: Trained) -> None:
    same(handed_on, trained.head.path)
    assert hep2.load(handed_on).predict(images()).novelty.notna().all()
    np.testing.assert_array_equal(
        hep2.load(handed_on).embed(images()), hep2.load(trained.head.path).embed(images())
    )


def test_what_is_no_network(configure: Configure, tmp_path: Path) -> None:
    runs = [fit(configure(*words)) for words in (CODEBOOK, KNN)]
    tiny = configure()
    where = (f"runs_dir={tiny.runs_dir}", f"cache_dir={tiny.cache_dir}", "logger=csv")
    runs.append(fit(composed(*TINY_DATA, *CHOOSING, *where, *ENSEMBLE)))
    for run in runs:
        file, _ = export(
            str(run.path), tmp_path, str(tmp_path / f"{run.path.parts[-3]}.hep2"), None
        )
        same(file, run.path)


def test_several_folds_and_the_command(tmp_path: Path, trained: Trained, fold: Fold) -> None:
    for number in range(2):
        write_pair(tmp_path / "runs", number)
    file, _ = export("default", tmp_path / "runs", str(tmp_path / "both.hep2"), None)
    same(file, tmp_path / "runs" / "default")
    write_test_cells(fold, tmp_path / "cells")
    for run, out in ((str(file), "a.csv"), ("default", "b.csv")):
        predict(run, tmp_path / "runs", f"{tmp_path}/cells", f"{tmp_path}/{out}", None)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_what_needs_the_runs_themselves_says_so(
    handed_on: Path, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, words in {"again.hep2": (None,), "m.zip": ("bioimageio",)}.items():
        with pytest.raises(HEp2Error, match=r"model\.hep2 was handed on as one file, and format="):
            export(str(handed_on), Path(), str(tmp_path / name), None, *words)
    with pytest.raises(HEp2Error, match=r"handed on without the data set that it learned from"):
        hep2.load(handed_on).nearest(images())
    with pytest.raises(HEp2Error, match=r"orientations=1 cannot be kept in a \.hep2 file"):
        export(str(trained.head.path), Path(), str(tmp_path / "one.hep2"), 1)
    assert not [*tmp_path.glob("again*"), *tmp_path.glob("m.*"), *tmp_path.glob("one*")]
    assert "hep2-" not in caplog.text, "where it was unpacked is nobody's business"


def test_no_cell_and_no_specimen_is_handed_on(handed_on: Path, fold: Fold) -> None:
    with zipfile.ZipFile(handed_on) as archive:
        told = b"".join(archive.read(name) for name in archive.namelist()
                        if not name.endswith(".ckpt"))  # fmt: skip
    names = {*fold.cells.ids.tolist(), *fold.cells.specimens.tolist()}
    assert not [name for name in names if f'"{name}"'.encode() in told]


def changed(file: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in change(parts).items():
            archive.writestr(name, content)


def renamed(to: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """The first part under another name, in the list as well."""

    def change(parts: dict[str, bytes]) -> dict[str, bytes]:
        first = next(name for name in parts if name.endswith("config.yaml"))
        listed = parts.pop(LISTED).replace(first.encode(), to.encode())
        return {LISTED: listed, to: parts.pop(first), **parts}

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: {name: content.replace(b"intensity", b"gradient!")
                        if name.endswith(".ckpt") else content
                        for name, content in parts.items()}, r"\.ckpt is not as it was written"),
        (lambda parts: {name: content for name, content in parts.items()
                        if not name.endswith(".ckpt")}, "its parts are not those that its"),
        (lambda parts: {**parts, "more": b""}, "its parts are not those that its runs.json names"),
        (lambda parts: {**parts, LISTED: b"[1]"}, "does not say what was written"),
        (lambda parts: {**parts, LISTED: json.dumps(json.loads(parts[LISTED]) | {"runs": ["x"]}
                                                    ).encode()}, "it names 'x'"),
        (renamed("../../../config.yaml"), r"it names '\.\./"),
        (renamed("/tmp/fold0/seed0/config.yaml"), "it names '/tmp/"),
        (renamed("a/fold0/seed0/x.py"), r"it names 'a/fold0/seed0/x\.py'"),
    ],
)  # fmt: skip
def test_what_was_changed_is_refused(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], said: str, handed_on: Path
) -> None:
    changed(handed_on, change)
    with pytest.raises(HEp2Error, match=rf"model\.hep2 is damaged or foreign: .*{said}"):
        hep2.load(handed_on)


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(HEp2Error, match=r"there is no .*nothing\.hep2"):
        hep2.load(tmp_path / "nothing.hep2")
    with pytest.raises(HEp2Error, match=r"is for task=predict; its vectors: hep2\.load"):
        embed("nothing.hep2", tmp_path, None, str(tmp_path / "v.npy"))
    (tmp_path / "text.hep2").write_text("a text")
    with pytest.raises(HEp2Error, match="cannot be read as a zip"):
        hep2.load(tmp_path / "text.hep2")
    with zipfile.ZipFile(tmp_path / "large.hep2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(LISTED, bytes(20 * 2**20))
    with pytest.raises(HEp2Error, match=r"it has 1 parts of 20,971,520 bytes"):
        hep2.load(tmp_path / "large.hep2")
