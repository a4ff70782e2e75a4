"""What was fitted is kept as numbers and words, and comes back as it was, or not at all."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from skops.io import dumps

from hep2.errors import HEp2Error
from hep2.features.fisher import FisherVectors
from hep2.features.handcrafted import Handcrafted
from hep2.features.kept import read_kept, write_kept
from hep2.features.pixels import PrincipalComponents
from hep2.features.transforms import Encoding, Extraction, FisherEncoding, Representation, Transform
from hep2.heads.estimator import Classifier, TrainingCells
from hep2.heads.nearest_convex_hull import NearestConvexHull
from hep2.heads.neighbours import MajorityClass, NearestNeighbours
from hep2.heads.svm import SVM
from hep2.nets.architectures import ENCODERS, build

NETWORK = {"image_size": 16, "widths": [4, 8]}
MADE_BY = {"architecture": "dcae", "network": NETWORK}
PROVENANCE: dict[str, str | int] = {"data": "0" * 16, "split": "1" * 16, "fold": 2, "seed": 3}
RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.random((30, 1, 16, 16), np.float32))
LABELS: NDArray[np.int64] = np.arange(30) % 3


def pixels() -> Extraction:
    components = PrincipalComponents(5)
    components.fit(IMAGES[:, 0].numpy(), 0)
    return Extraction(components, {"_target_": "x", "components": 5}, masked=False)


def fisher(masked: bool) -> FisherEncoding:
    torch.manual_seed(0)
    vectors = FisherVectors(level=1, components=3, gaussians=2, core=0.6, sample=100)
    vectors.fit(RNG.normal(size=(100, 4)).astype(np.float32), 0)
    encoder = build(ENCODERS, "dcae", **NETWORK)
    return FisherEncoding(encoder, vectors, "gradient", MADE_BY, masked)


def encoding() -> Encoding:
    torch.manual_seed(1)
    return Encoding(build(ENCODERS, "dcae", **NETWORK), "standardised", MADE_BY)


def handcrafted() -> Extraction:
    return Extraction(Handcrafted([1, 2], [1], 8, 4), {"_target_": "y"}, masked=False)


def kept(tmp_path: Path, transforms: list[Transform], estimator: Any = None) -> Any:
    write_kept(tmp_path / "fitted.ckpt", Representation(transforms, 2), estimator, PROVENANCE)
    return read_kept(tmp_path / "fitted.ckpt")


@pytest.mark.parametrize("masked", [False, True])
def test_vectors_side_by_side_come_back(tmp_path: Path, masked: bool) -> None:
    transforms = [pixels(), fisher(masked), encoding(), handcrafted()]
    found = kept(tmp_path, transforms)
    masks = (torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    before, after = (
        one(IMAGES, None, masks) for one in (Representation(transforms, 2), found.representation)
    )
    assert torch.allclose(before, after, rtol=0, atol=1e-5) and before.std(dim=0).max() > 0.01
    turned = found.representation(IMAGES, 1, masks)
    assert not torch.allclose(before, turned)
    without = found.representation(IMAGES)
    assert torch.allclose(before, without, rtol=0, atol=1e-5) is not masked
    assert [one.key for one in found.representation.transforms] == [one.key for one in transforms]
    assert found.representation.masked is masked and found.representation.orientations == 2
    assert (found.estimator, found.provenance) == (None, PROVENANCE)


HEADS: dict[str, Any] = {
    "svm": SVM([1.0, 10.0], [0.5]),
    "nch": NearestConvexHull(),
    "knn": NearestNeighbours([3], ["euclidean"]),
    "chance": MajorityClass(),
    "forest": Classifier(RandomForestClassifier(5, random_state=0), {}),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("patterns", [3, 1])
def test_heads_come_back(tmp_path: Path, name: str, patterns: int) -> None:
    head, labels = HEADS[name], LABELS % patterns
    features = pixels()(IMAGES).numpy()
    halves = [(np.arange(15), np.arange(15, 30)), (np.arange(15, 30), np.arange(15))]
    head.fit(TrainingCells(features, labels, 3, halves))
    found = kept(tmp_path, [pixels()], head)
    expected = head.probabilities(features)
    assert np.array_equal(found.estimator.probabilities(features), expected)
    assert found.estimator.chosen == head.chosen
    if patterns > 1 and name != "chance":
        assert expected.std(axis=0).min() > 0.01


def changed(file: Path, change: Any) -> None:
    content = torch.load(file, weights_only=True)
    change(content["state_dict"], content["hyper_parameters"])
    torch.save(content, file)


def test_another_library_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept(tmp_path, [pixels()])
    assert not caplog.text
    changed(
        tmp_path / "fitted.ckpt",
        lambda _, settings: settings["versions"].update({"scikit-learn": "0.1"}),
    )
    with caplog.at_level(logging.WARNING):
        read_kept(tmp_path / "fitted.ckpt")
    assert "was written by scikit-learn 0.1 and is read by" in caplog.text


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_changed_byte_is_refused(tmp_path: Path, place: float) -> None:
    kept(tmp_path, [pixels()])
    file = tmp_path / "fitted.ckpt"
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(HEp2Error, match=r"fitted\.ckpt is damaged or not a checkpoint of hep2"):
        read_kept(file)


class Payload:
    """Made again, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.file}'",)


@pytest.mark.parametrize(
    "name",
    ["os.system", "hep2.heads.svm.os", "hep2.heads.svm.StandardScaler", "hep2.files.whole_file",
     "hep2.features.kept.importlib", "hep2.features.codebook.Path", "hep2.heads.svm.replace"],
)  # fmt: skip
def test_no_other_class_is_made(tmp_path: Path, name: str) -> None:
    kept(tmp_path, [pixels()])

    def foreign(state: Any, _: Any) -> None:
        state["transforms"][0]["extractor"]["class"] = name

    changed(tmp_path / "fitted.ckpt", foreign)
    with pytest.raises(HEp2Error, match=r"fitted\.ckpt is damaged or foreign .*overwrite=true"):
        read_kept(tmp_path / "fitted.ckpt")


def test_scikit_learn_s_part_runs_no_code(tmp_path: Path) -> None:
    kept(tmp_path, [pixels()])
    bad = torch.frombuffer(bytearray(dumps(Payload(tmp_path / "made"))), dtype=torch.uint8)

    def foreign(state: Any, _: Any) -> None:
        state["transforms"][0]["extractor"]["state"]["pca"] = {"__skops__": bad}

    changed(tmp_path / "fitted.ckpt", foreign)
    with pytest.raises(HEp2Error, match=r"fitted\.ckpt is damaged or foreign.* is not read"):
        read_kept(tmp_path / "fitted.ckpt")
    assert not (tmp_path / "made").exists()


def test_what_cannot_be_kept_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = MajorityClass()
    head.chosen = {"what": Payload(tmp_path)}
    with caplog.at_level(logging.WARNING):
        write_kept(tmp_path / "fitted.ckpt", Representation([pixels()], 1), head, PROVENANCE)
    assert "test_kept.Payload cannot be kept, so this run will name no other cells" in caplog.text
    assert not (tmp_path / "fitted.ckpt").exists()
