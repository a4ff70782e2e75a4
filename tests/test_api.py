"""hep2 from Python: a few names, the same results as on the command line."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY, Trained
from helpers.small_fields import write_fields
from helpers.trained_runs import write_pair

import hep2
from hep2.prediction.export import export
from hep2.prediction.predict import predict


def cells(count: int = 6, bits: int = 8) -> np.ndarray:
    """Images of another size than the networks', smooth as cells are."""
    drawn = np.random.default_rng(0).random((count, 9, 7)).astype(np.float32)
    large = np.stack([cv2.resize(one, (60, 48), interpolation=cv2.INTER_CUBIC) for one in drawn])
    return (large.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def saved(folder: Path, images: np.ndarray) -> Path:
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def test_the_package_is_there_at_once_and_says_what_it_has() -> None:
    heavy = ("torch", "numpy", "pandas", "hydra", "lightning", "sklearn")
    code = f"import sys, hep2; print(dir(hep2), [m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith(" []\n") and "'fit'" in done.stdout, done.stderr
    assert {name for name in hep2.__all__ if callable(getattr(hep2, name))} == set(hep2.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        hep2.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["hep2.api", "hep2.prediction.loaded"])
def test_what_the_documentation_shows_is_so(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testmod(importlib.import_module(module))
    assert outcome.attempted > 1 and outcome.failed == 0


def test_fit_is_the_run_of_the_command_line(trained: Trained, cache_dir: Path) -> None:
    """The run is finished: it is read, not done again."""
    words = [*TINY, f"runs_dir={trained.runs_dir}", f"cache_dir={cache_dir}", "stage=head"]
    before = trained.head.result.stat().st_mtime_ns
    run = hep2.fit(words)
    assert run.path == trained.head.path and trained.head.result.stat().st_mtime_ns == before
    assert set(run.metrics) >= {"specimen/test/mca"}
    with pytest.raises(hep2.HEp2Error, match=r"fit\(\['stage=head'\]\)"):
        hep2.fit("stage=head")
    with pytest.raises(hep2.HEp2Error, match=r"stage\.epochs: 6 there, 7 asked"):
        hep2.fit([*words, "stage.epochs=7"])


def test_runs_are_a_table(trained: Trained) -> None:
    table = hep2.runs("default", trained.runs_dir).set_index("stage")
    assert table.path.to_dict() == {"dcae": trained.dcae.path, "head": trained.head.path}
    assert set(table.protocol) == {"specimen"} and table.synthetic.all()
    run = hep2.fit([*TINY, f"runs_dir={trained.runs_dir}", "stage=head"])
    assert table.mca["head"] == run.metrics["specimen/test/mca"] and np.isnan(table.mca["dcae"])


@pytest.mark.parametrize("bits", [8, 16])
def test_arrays_and_files_are_named_as_the_command_names_them(
    trained: Trained, tmp_path: Path, bits: int
) -> None:
    images = cells(bits=bits)
    folder, out = saved(tmp_path, images), tmp_path / "out.csv"
    reading = {"full_scale": 65535} if bits == 16 else {}
    predict(str(trained.head.path), Path(), str(folder), str(out), None, **reading)
    said = pd.read_csv(out)
    model = hep2.load(trained.head.path)
    listed = tmp_path / "cells.csv"
    listed.write_text("image,specimen\n" + "".join(f"{n}.png,s{n % 2}\n" for n in range(6)))
    from_arrays = model.predict(images, **reading)
    assert from_arrays.id.tolist() == list("012345")
    shares = [f"p_{name}" for name in model.classes]
    every = {
        "folder": model.predict(folder, **reading),
        "list": model.predict([folder / f"{n}.png" for n in range(6)], **reading),
        "csv": model.predict(listed, **reading),
        "several sizes": model.predict(list(images), **reading),
    }
    for what, table in {"array": from_arrays, **every}.items():
        assert table.output.tolist() == said.output.tolist(), what
        np.testing.assert_allclose(table[[*shares, "novelty"]], said[[*shares, "novelty"]],
                                   rtol=1e-5, err_msg=what)  # fmt: skip
    assert every["csv"].specimen.tolist() == ["s0", "s1"] * 3 and "specimen" not in from_arrays
    if bits == 8:
        floats = model.predict(images.astype(np.float64) / 255)
        np.testing.assert_allclose(floats[shares], from_arrays[shares], atol=2e-3)


def test_the_tables_are_those_that_the_command_writes(trained: Trained, tmp_path: Path) -> None:
    saved(tmp_path, cells())
    (tmp_path / "5.png").write_bytes(b"")
    listed, out = tmp_path / "cells.csv", tmp_path / "out.csv"
    listed.write_text("image,specimen\n" + "".join(f"{n}.png,=s{n % 2}\n" for n in range(6)))
    predict(str(trained.head.path), Path(), str(listed), str(out), None)
    model = hep2.load(trained.head.path)
    ours = model.predict(listed)
    same_as_written(ours, out)
    assert ours.unlike_training.dtype == bool and ours.problem.tolist()[5].startswith("the file is")
    same_as_written(model.specimens(ours), tmp_path / "out-specimens.csv")
    read_again = model.specimens(pd.read_csv(out))
    assert read_again[["cells", "output", "said"]].equals(
        model.specimens(ours)[["cells", "output", "said"]]
    )
    from_arrays = model.predict(cells())
    assert "specimen" not in from_arrays
    with pytest.raises(hep2.HEp2Error, match=r"no specimen is known: .* cells\['specimen'\] = "):
        model.specimens(from_arrays)
    named = model.specimens(from_arrays.assign(specimen=["b", "a", None, "", "b", "a"]))
    assert named.specimen.tolist() == ["a", "b"] and named.cells.tolist() == [2, 2]
    with pytest.raises(hep2.HEp2Error, match="no table of predict: it lacks novelty, p_"):
        model.specimens(pd.DataFrame({"specimen": ["a"]}))


def same_as_written(table: pd.DataFrame, file: Path) -> None:
    """But for what a CSV writes in its own way: yes and no, rounded numbers, no formulas."""
    written = pd.read_csv(file, keep_default_na=False, na_values={})
    assert table.columns.tolist() == written.columns.tolist()
    for column, values in table.items():
        theirs = written[column]
        if values.dtype == bool:
            theirs = theirs == "yes"
        elif values.dtype.kind == "f":
            np.testing.assert_allclose(values, pd.to_numeric(theirs), rtol=1e-3, err_msg=column)
            continue
        else:
            theirs = [value.removeprefix("'") if isinstance(value, str) else value
                      for value in theirs]  # fmt: skip
        assert values.fillna("").tolist() == list(theirs), column


def test_cells_of_whole_fields(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    fields, masks = write_fields(tmp_path, "s1/a", "s2/b")
    out = tmp_path / "out.csv"
    predict("default", tmp_path / "runs", str(fields), str(out), None, masks=str(masks))
    model = hep2.load("default", tmp_path / "runs")
    ours = model.predict(fields, masks=masks)
    same_as_written(ours, out)
    assert ours.id[0] == "s1/a.png#3"
    same_as_written(model.specimens(ours), tmp_path / "out-specimens.csv")
    read_again = model.specimens(pd.read_csv(out))
    assert read_again[["cells", "output", "said"]].equals(
        model.specimens(ours)[["cells", "output", "said"]]
    )
    with pytest.raises(hep2.HEp2Error, match="masks belong to whole fields: give images as one pa"):
        model.predict(cells(), masks=masks)


def test_vectors_of_several_runs_are_refused_by_name(tmp_path: Path) -> None:
    paths = [write_pair(tmp_path / "runs", fold)[0] for fold in range(2)]
    model = hep2.load("default", tmp_path / "runs")
    with pytest.raises(hep2.HEp2Error, match=r"default holds 2 encoders, .* load one of") as told:
        model.embed(cells())
    assert repr(str(paths[0])) in str(told.value)
    assert hep2.load(paths[0]).embed(cells()).shape == (6, 128)


def test_vectors_are_the_frozen_encoders(trained: Trained) -> None:
    images = cells()
    vectors = hep2.load(trained.head.path, orientations=1).embed(images)
    from hep2.prediction.models import load_ensemble

    ensemble = load_ensemble(str(trained.head.path), Path(), 1)
    assert vectors.shape == (6, 4096) and vectors.dtype == np.float32
    both = hep2.load(trained.head.path).embed(images[:1])
    assert not np.allclose(both, vectors[:1])  # of two orientations, as it was tested
    assert ensemble.orientations == 1


def test_prediction_needs_what_its_group_lists_and_no_more(
    trained: Trained, tmp_path: Path
) -> None:
    """In a process of its own, in which nothing else can be imported."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    names = {re.split(r"[<>=!;]", one)[0]: one for one in project["project"]["dependencies"]}
    small = project["dependency-groups"]["predict"]
    assert set(small) <= set(names.values())  # the same versions
    modules = {"hydra-core": "hydra", "opencv-python-headless": "cv2", "pillow": "PIL",
               "scikit-learn": "sklearn", "scikit-image": "skimage"}  # fmt: skip
    refused = [modules.get(name, name) for name, one in names.items() if one not in small]
    assert {"lightning", "wandb", "sklearn", "scipy", "albumentations"} <= set(refused)
    code = (
        "import sys, numpy as np\n"
        f"sys.modules.update(dict.fromkeys({refused}))\n"  # None there: ImportError
        "import hep2\n"
        f"model = hep2.load({str(trained.head.path)!r})\n"
        "images = np.zeros((2, 9, 9), np.uint8)\n"
        "print(len(model.predict(images)), model.embed(images).shape)\n"
        "from hep2.programs import console\n"
        f"asked = ['run={trained.head.path}', 'images={tmp_path}/cells.csv', 'orientations=1']\n"
        f"for task, name in (('predict', 'c.csv'), ('embed', 'v.npy')):\n"
        f"    sys.argv = ['hep2', task, *asked, 'out={tmp_path}/' + name]\n"
        "    console.main()\n"
    )
    saved(tmp_path, cells())
    (tmp_path / "cells.csv").write_text("image,specimen\n0.png,s\n1.png,s\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("2 (2, 4096)\n"), done.stderr
    made = {file.name for file in tmp_path.iterdir()} - {f"{number}.png" for number in range(9)}
    assert made == {"cells.csv", "c.csv", "c-specimens.csv", "c.html", "v.csv", "v.npy"}
    assert np.load(tmp_path / "v.npy").shape == (2, 4096)


def test_an_exported_file_is_loaded_as_the_runs_are(trained: Trained, tmp_path: Path) -> None:
    file, _ = export(str(trained.head.path), Path(), str(tmp_path / "model.pt2"), None)
    from_file, from_runs = hep2.load(file), hep2.load(trained.head.path)
    images = cells()
    here, there = from_file.predict(images), from_runs.predict(images)
    pd.testing.assert_frame_equal(here, there, check_exact=False, atol=1e-5)
    with pytest.raises(hep2.HEp2Error, match="gives no vectors"):
        from_file.embed(images)
    file.write_bytes(b"PK" + bytes(100))
    with pytest.raises(hep2.HEp2Error, match="damaged or foreign: torch says"):
        hep2.load(file)


@pytest.mark.parametrize(
    "images, sentence",
    [
        (np.zeros((2, 3, 8, 8)), r"image 0 has the shape \(3, 8, 8\): give grey images"),
        (np.full((1, 8, 8), 1.5), "image 0 has values from 1.5 to 1.5: floats must be in"),
        (np.full((1, 8, 8), np.nan), "floats must be in"),
        (np.zeros((1, 8, 8), np.int64), "image 0 is int64: give uint8, uint16 or floats"),
        ("nowhere", "images=nowhere: no such file or folder"),
    ],
)
def test_what_is_no_image_is_said(trained: Trained, images: object, sentence: str) -> None:
    with pytest.raises(hep2.HEp2Error, match=sentence):
        hep2.load(trained.head.path).predict(images)


def test_an_unreadable_file_has_no_call(trained: Trained, tmp_path: Path) -> None:
    saved(tmp_path, cells(2))
    (tmp_path / "bad.png").write_bytes(b"")
    model = hep2.load(trained.head.path)
    table = model.predict(tmp_path).set_index("id")
    assert table.problem["bad.png"] == "the file is empty (0 bytes)"
    assert pd.isna(table.output["bad.png"]) and table.output["0.png"] in model.classes
    assert len(model.predict(np.zeros((0, 8, 8)))) == 0
    with pytest.raises(hep2.HEp2Error, match=r"bad\.png: the file is empty"):
        model.embed(tmp_path)


def test_an_audit_of_a_data_frame_is_that_of_its_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, cells(8))
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(
        {
            "image": [Path(f"{n}.png") for n in range(8)],
            "label": pd.Categorical(list("abababab")),
            "slide": [7, 7, 7, 7, 8, 8, 8, 8],
            "fold": [0.0, 0, 0, 1, 1, 1, 1, 1],
            7: "a column without a name",
        }
    )
    table.to_csv("split.csv", index=False)
    here, there = (hep2.audit(one, specimen="slide") for one in (table, "split.csv"))
    assert (here.leaks, here.shared, here.pairs) == (True, 1, there.pairs)
    assert [one.held.name for one in here.findings] == ["fold 0", "fold 1"]
    assert here.name == "the table"
    assert hep2.audit(table, root=tmp_path, specimen="slide").shared == 1
    table.loc[3, "label"] = None
    with pytest.raises(hep2.HEp2Error, match=r"the table row 3 \(3\.png\): no label"):
        hep2.audit(table)
    with pytest.raises(hep2.HEp2Error, match="the table has no rows"):
        hep2.audit(table[:0])


def test_an_audit_is_the_commands(tmp_path: Path) -> None:
    saved(tmp_path, cells(8))
    rows = [f"{n}.png,{'ab'[n % 2]},s{n // 4},{'train' if n < 6 else 'test'}" for n in range(8)]
    table = tmp_path / "split.csv"
    table.write_text("image,label,slide,split\n" + "\n".join(rows))
    found = hep2.audit(table, specimen="slide")
    assert (found.leaks, found.shared) == (True, 1)
    with pytest.raises(hep2.HEp2Error, match="columns are image, label"):
        hep2.audit(table, slide="slide")
