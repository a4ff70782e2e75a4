"""The features of a run: of frozen encoders, or of an extractor."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from hep2.data.inputs import CachedFeatures
from hep2.encoders import encoder_paths, train_command
from hep2.features.checkpoint import EncoderCheckpoint, read_encoder
from hep2.features.extractor import extracted_features
from hep2.features.latents import joined, latents_of_fold
from hep2.fold import Fold
from hep2.naming import encoders_of
from hep2.nets.architectures import ENCODERS, build
from hep2.stages.network import device, plain


@dataclass(frozen=True)
class Features:
    """What a head is fed with.

    Attributes:
        inputs: the feature vectors.
        checkpoints: of the encoders that made them; none of an extractor.
        learned_with_labels: whether labels were read where they were learned; None: not learned.
    """

    inputs: CachedFeatures
    checkpoints: list[EncoderCheckpoint]
    learned_with_labels: bool | None


def own_encoders(cfg: DictConfig, fold: Fold) -> list[EncoderCheckpoint]:
    """The fold's own encoders that the configuration asks for.

    Raises:
        HEp2Error: one is missing, or belongs to another fold.
    """
    paths = encoder_paths(cfg, selected=not fold.split.note)
    return [
        read_encoder(path, fold.provenance, train_command(cfg, stage, model))
        for path, (stage, model) in zip(paths, encoders_of(cfg).items(), strict=True)
    ]


def features_of(cfg: DictConfig, fold: Fold, orientations: int) -> Features:
    """Compute the features of the fold's cells, or find them in the cache.

    Args:
        cfg: the run's configuration.
        fold: whose cells.
        orientations: of the training cells.

    Raises:
        HEp2Error: an encoder is missing, or belongs to another fold.
    """
    cache_dir = Path(cfg.cache_dir)
    checkpoints = own_encoders(cfg, fold)
    if not checkpoints:
        settings = plain(cfg.features.extractor)
        inputs, learned = extracted_features(settings, fold, orientations, cache_dir)
        return Features(inputs, [], False if learned else None)
    parts = []
    for checkpoint in checkpoints:
        encoder = build(ENCODERS, checkpoint.architecture, **checkpoint.network)
        checkpoint.load_into(encoder)
        encoder.eval().requires_grad_(False).to(device(cfg))
        parts.append(
            latents_of_fold(encoder, fold, orientations, cache_dir, cfg.seed, checkpoint.view)
        )
    with_labels = any(checkpoint.learned_with_labels for checkpoint in checkpoints)
    return Features(joined(parts), checkpoints, with_labels)
