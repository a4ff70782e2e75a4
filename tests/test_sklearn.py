"""hep2 for scikit-learn: its own checks, the framework's own weights, pipelines by specimen."""

import numpy as np
import pytest
from conftest import TINY_DATA, composed
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir
from hep2.sklearn import Classifier, Encoder

SMALL = ("model.network.widths=[4,8]", "data.image_size=16", "trainer.accelerator=cpu")
ENCODER = Encoder(epochs=1, settings=(*SMALL, "features.orientations=1"), random_state=0)
CLASSIFIER = Classifier(encoder=ENCODER, epochs=1, settings=("head=linear",), random_state=0)
FAILURES = {
    "check_classifiers_train": "wants 83 % from one epoch, of vectors that are no images",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [ENCODER, CLASSIFIER],
    expected_failed_checks=lambda one: FAILURES if isinstance(one, Classifier) else {},
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def cells(fold: Fold):
    """Images (n, H, W), labels and specimens of the tiny data set."""
    part = slice(None, None, 2)
    images = np.asarray(fold.cells.images[part, 0])
    labels = np.array(fold.cells.classes)[fold.cells.labels[part]]
    return images, labels, fold.cells.specimens[part]


def test_the_weights_are_those_of_stage_1(fold: Fold, cache_dir, tmp_path) -> None:
    """As `hep2 train` has them: the same cells, settings and seed."""
    from dataclasses import replace

    from hep2.stages.autoencoder import AutoencoderStage

    words = (*SMALL, "experiment=dcae_mlp", "stage.batch_size=8", "seed=3", "logger=csv",
             "data.image_size=64", "trainer.enable_progress_bar=false")  # fmt: skip
    every = np.arange(len(fold.cells))
    split = replace(fold.split, train=every, val=every[:0], test=every[:0], note="all learn")
    cfg = composed(*TINY_DATA, *words, "stage=dcae", "stage.epochs=2", f"runs_dir={tmp_path}",
                   "~callbacks.progress", "~callbacks.pictures", "~callbacks.probe")  # fmt: skip
    stage = AutoencoderStage(cfg, replace(fold, split=split), RunDir(tmp_path))
    stage.train([])
    settings = (*SMALL[::2], "stage.batch_size=8")
    ours = Encoder("dcae_mlp", epochs=2, settings=settings, random_state=3)
    before = np.random.get_state()[1].copy()
    ours.fit(np.asarray(fold.cells.images[:, 0]))
    assert np.array_equal(np.random.get_state()[1], before)  # the caller's numbers stay
    theirs = stage.task.encoder.state_dict()
    for name, value in ours.encoder_.state_dict().items():
        assert np.array_equal(value, theirs[name]), name


def test_a_pipeline_is_tried_on_whole_specimens(cells) -> None:
    images, labels, specimens = cells
    method = make_pipeline(ENCODER, LogisticRegression(max_iter=50))
    scores = cross_val_score(method, images, labels, groups=specimens, cv=GroupKFold(2))
    assert scores.shape == (2,) and np.isfinite(scores).all()


def test_the_same_random_state_gives_the_same(cells) -> None:
    images, labels, _ = cells
    first, again = (CLASSIFIER.fit(images, labels).predict_proba(images) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (len(images), 5) and np.allclose(first.sum(axis=1), 1)
    assert set(CLASSIFIER.predict(images)) <= set(CLASSIFIER.classes_) == set(labels)
    other = Classifier(encoder=ENCODER, epochs=1, settings=("head=linear",), random_state=1)
    assert not np.array_equal(other.fit(images, labels).predict_proba(images), first)


def test_the_encoder_reads_no_label(cells) -> None:
    images, labels, _ = cells
    with_labels = ENCODER.fit(images, labels).transform(images)
    flat = images.reshape(len(images), -1)  # which is another way to say the same
    assert np.array_equal(with_labels, ENCODER.fit(flat, labels[::-1]).transform(flat))


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_whole_numbers_of_another_type_keep_their_grey_levels(cells, kind) -> None:
    """As `np.array` makes them of lists: neither 8 nor 16 bits, and far above 1."""
    images = cells[0].astype(kind)
    levels = ENCODER.fit(images)._images(images.reshape(len(images), -1))
    assert ENCODER.range_ == (0.0, images.max()) and len(np.unique(levels)) > 100


def test_a_wrong_setting_is_one_sentence(cells) -> None:
    with pytest.raises(HEp2Error, match="dcae_pluss"):
        Encoder("dcae_pluss").fit(cells[0])
    with pytest.raises(HEp2Error, match="method=chance has 0 encoders, not one"):
        Encoder("chance").fit(cells[0])
    with pytest.raises(HEp2Error, match=r"epochs_of_mine|no setting"):
        Encoder(settings=("stage.epochs_of_mine=1",)).fit(cells[0])
