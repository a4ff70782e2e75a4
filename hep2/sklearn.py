"""hep2's method for scikit-learn: an encoder that reads no labels, and a classifier behind it.

    from hep2.sklearn import Encoder

    method = make_pipeline(Encoder(random_state=0), LogisticRegression())
    cross_val_score(method, X, y, groups=specimens, cv=GroupKFold(5))

X holds grey images: (n, H, W), or (n, H * W) of square images, row after row (where that is no
square number, an image has one line). uint8 and uint16 run from black to white; all else from 0 to
1, and what `fit` saw beyond widens the range. Cross-validate by specimen (`groups`): cells of one
specimen resemble each other, and a random split flatters every method by tens of points.
"""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from hep2.cli import ignore_unfounded, plainly
from hep2.config import arguments, composed, is_estimator, plain
from hep2.data.cells import NOBODY, Cells
from hep2.data.datamodule import HEp2DataModule
from hep2.data.fold import Fold
from hep2.data.images import FULL_SCALE, resize_square
from hep2.data.inputs import CachedFeatures, CellImages, in_batches
from hep2.data.protocols import Split
from hep2.errors import HEp2Error
from hep2.features.transforms import Encoding
from hep2.rundir.directory import RunDir
from hep2.stages.autoencoder import AutoencoderStage
from hep2.stages.callbacks import EpochSeed, TerminateOnNaN
from hep2.stages.classifier import chances_of
from hep2.tasks.classification import Classification
from hep2.trainer import batches_of_epoch, precision_of

NO_VALIDATION = "all cells are learned from"
EXACT = (np.uint8, np.uint16)  # taken as they are, from black to white


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images to latents: `fit` trains stage 1 of a method, and reads no labels.

    With the same cells, settings and seed the weights are those of `hep2 train`.

    Args:
        method: a row of conf/experiment whose features are those of one encoder.
        epochs: of stage 1; None: the method's.
        settings: other settings of `hep2 train`, e.g. ("data.image_size=32",).
        random_state: a number, which is `hep2 train`'s seed; a RandomState; None: a new one.

    Attributes:
        encoder_: the frozen network, (B, 1, H, W) -> (B, D).
        image_shape_: (H, W) of the images that `fit` saw.
        range_: the values of black and white in other types than uint8 and uint16.
    """

    def __init__(
        self,
        method: str = "dcae_plus",
        epochs: int | None = None,
        settings: Sequence[str] = (),
        random_state: Any = None,
    ) -> None:
        self.method, self.epochs, self.settings = method, epochs, settings
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "Encoder":
        """Learn to encode such images; `y` is not read.

        Raises:
            ValueError: X holds no images, or fewer than two.
            HEp2Error: a setting is wrong.
        """
        X = _checked(self, X, reset=True)
        low, high = (0.0, 1.0) if X.dtype in EXACT else (float(X.min()), float(X.max()))
        self.range_ = min(low, 0.0), max(high, 1.0)
        seed = _seed(self.random_state)
        cfg = self._configuration(seed)
        self._reading = int(cfg.data.image_size), int(cfg.features.orientations), cfg.stage.view
        with isolate_rng():
            stage = AutoencoderStage(cfg, _fold(self._images(X), seed), RunDir(Path()))
            _train(stage.task, stage.datamodule, len(X), cfg)
        self.encoder_ = stage.task.encoder.cpu().eval().requires_grad_(False)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Latents, (n, D), averaged over flips and quarter turns where the method does."""
        check_is_fitted(self)
        images = self._images(_checked(self, X, reset=False))
        _, orientations, view = self._reading
        inputs, encoding = CellImages(_cells(images), view=view), Encoding(self.encoder_, view)
        latents = partial(encoding.averaged, orientations=orientations)
        return torch.cat(list(in_batches(inputs, np.arange(len(images)), latents))).numpy()

    def __sklearn_tags__(self) -> Any:
        """Latents are float32, whatever the images are."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return int(self.encoder_.latent_size)

    def _configuration(self, seed: int) -> DictConfig:
        """What `hep2 train experiment=<method>` has for the stage that makes its encoder."""
        words = [f"experiment={self.method}", f"seed={seed}", *self.settings]
        epochs = [] if self.epochs is None else [f"stage.epochs={self.epochs}"]
        with plainly():
            encoders = list(composed(words).features.encoders)
            if len(encoders) != 1:
                raise HEp2Error(f"method={self.method} has {len(encoders)} encoders, not one")
            return composed([*words, f"stage={encoders[0]}", *epochs])

    def _images(self, X: NDArray[Any]) -> NDArray[Any]:
        """Checked values as the common size has them, uint8 or uint16: (n, 1, size, size)."""
        if X.dtype not in EXACT:
            low, high = self.range_
            shares = ((X.astype(np.float64) - low) / (high - low)).clip(0, 1)
            X = (shares * FULL_SCALE).round().astype(np.uint16)
        shaped = X.reshape(-1, *self.image_shape_)
        return np.stack([resize_square(image, self._reading[0]) for image in shaped])[:, None]


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A whole method: an encoder that reads no labels, and the method's head on its latents.

    Args:
        encoder: an Encoder; None: Encoder(random_state=random_state).
        epochs: of the head; None: the method's.
        settings: other settings of `hep2 train stage=head`.
        random_state: as of Encoder, for the head.

    Attributes:
        classes_: the labels, in the order of `predict_proba`.
        encoder_: the encoder, fitted to the same cells.
        head_: the network behind it.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        epochs: int | None = None,
        settings: Sequence[str] = (),
        random_state: Any = None,
    ) -> None:
        self.encoder, self.epochs, self.settings = encoder, epochs, settings
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "Classifier":
        """Learn first to encode the images, then to name them.

        Raises:
            ValueError: X holds no images, y no classes, or one alone.
            HEp2Error: a setting is wrong.
        """
        X, y = _checked(self, X, reset=True, y=y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]!r}: two or more are needed")
        seed = _seed(self.random_state)
        whole = Encoder(random_state=seed) if self.encoder is None else clone(self.encoder)
        self.encoder_ = whole.fit(X.reshape(-1, *self.image_shape_))
        features = CachedFeatures(self.encoder_.transform(X))
        epochs = [] if self.epochs is None else [f"stage.epochs={self.epochs}"]
        words = (f"experiment={whole.method}", "stage=head", f"seed={seed}")
        with plainly():
            cfg = composed([*words, *whole.settings, *epochs, *self.settings])
        _check_head(cfg)
        with isolate_rng():
            L.seed_everything(seed, workers=True, verbose=False)
            task = Classification(
                None,
                {"latent_size": features.size},
                head=arguments(cfg.head),
                classes=[str(name) for name in self.classes_],
                freeze=True,
                optimizer=plain(cfg.stage.optimizer),
                class_weights=None,
                protocol="fit",
                provenance={},
                mixup=cfg.stage.mixup,
                label_smoothing=cfg.stage.label_smoothing,
            )
            everyone = _everyone(len(labels))
            chances = chances_of(cfg.stage.sampling, labels, np.full(len(labels), ""))
            size = cfg.stage.batch_size
            batches = HEp2DataModule(features, labels, everyone, size, seed, chances=chances)
            _train(task, batches, len(labels), cfg)
        self.head_ = task.head.cpu().eval().requires_grad_(False)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities, (n, classes)."""
        check_is_fitted(self)
        latents = self.encoder_.transform(_checked(self, X, reset=False))
        with torch.inference_mode():
            logits = self.head_(torch.from_numpy(latents))
        return np.asarray(logits.double().softmax(dim=1).numpy())

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each image, (n,)."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])


def _check_head(cfg: DictConfig) -> None:
    """Refuse what `hep2 train` would do and this does not."""
    if is_estimator(cfg.head):
        raise HEp2Error(
            f"head={cfg.head.name} is an estimator of its own: put one of scikit-learn's behind "
            "hep2.sklearn.Encoder in a Pipeline"
        )
    ignored = {"stage.class_weights": None, "trainer.gradient_clip_val": None}
    for key, only in ignored.items():
        if (value := OmegaConf.select(cfg, key)) != only:
            raise HEp2Error(f"{key}={value} is not done here: use hep2.fit")


def _checked(estimator: Any, X: Any, reset: bool, **y: Any) -> Any:
    """X as (n, H * W), checked as scikit-learn does; `fit` learns (H, W) from it."""
    images = getattr(X, "ndim", 0) == 3
    shape = X.shape[1:] if images else None
    X = X.reshape(len(X), -1) if images else X
    least = {"ensure_min_samples": 2} if reset else {}
    checked = validate_data(estimator, X, reset=reset, **y, **least)
    if reset:
        values = (checked[0] if y else checked).shape[1]
        side = math.isqrt(values)
        estimator.image_shape_ = shape or ((side, side) if side**2 == values else (1, values))
    return checked


def _seed(random_state: Any) -> int:
    """A number as it is; else one drawn."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _everyone(cells: int) -> Split:
    return Split(np.arange(cells), NOBODY, NOBODY, leaky=False, note=NO_VALIDATION)


def _cells(images: NDArray[Any]) -> Cells:
    """A data set of images alone."""
    nobody = np.full(len(images), "")
    ids = np.array([f"{number:07}" for number in range(len(images))])
    labels = np.zeros(len(images), np.int64)
    return Cells(images, ids, labels, nobody, nobody, ("cell",), name="array", key="0" * 16)


def _fold(images: NDArray[Any], seed: int) -> Fold:
    """One in which everybody is learned from, and nobody tested."""
    provenance: dict[str, str | int] = {"data": "array", "protocol": "none", "seed": seed}
    return Fold(_cells(images), _everyone(len(images)), 0, 1, provenance)


def _train(task: L.LightningModule, batches: HEp2DataModule, cells: int, cfg: DictConfig) -> None:
    """All epochs, in memory: no file is written, nothing is shown."""
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    precision: Any = precision_of(cfg.trainer)
    trainer = L.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=precision,
        max_epochs=cfg.stage.epochs,
        limit_train_batches=batches_of_epoch(cfg),
        callbacks=[EpochSeed(cfg.seed), TerminateOnNaN(np.arange(cells).astype(np.str_))],
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        ignore_unfounded()
        trainer.fit(task, datamodule=batches)
