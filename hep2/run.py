"""One run, from its configuration to its result: the only orchestration there is."""

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from hep2 import tracking
from hep2.callbacks import EpochSeed, checkpoints
from hep2.data.augment import Augmentation
from hep2.data.datamodule import HEp2DataModule
from hep2.data.inputs import CellImages, Inputs
from hep2.errors import HEp2Error
from hep2.evaluation.metrics import confusion_counts, recalls, summarise
from hep2.features.checkpoint import read_checkpoint, read_encoder
from hep2.features.latents import latents_of_fold
from hep2.fold import Fold, open_fold
from hep2.results import describe, metrics, predictions_csv
from hep2.rundir import RunDir, encoder_path, method_of, run_path, train_command, write_atomic
from hep2.scoring import probabilities, score_reconstruction
from hep2.tasks.classification import Classification, balanced_weights
from hep2.tasks.reconstruction import Reconstruction

log = logging.getLogger(__name__)
for chatter in ("lightning.pytorch", "lightning.fabric"):  # advice that does not hold here
    logging.getLogger(chatter).setLevel(logging.WARNING)

Task = Reconstruction | Classification


def fit(cfg: DictConfig) -> RunDir:
    """Train one stage on one fold, score it on the test cells, write the result.

    A run that is finished is left alone; one that was interrupted goes on from its last epoch.

    Args:
        cfg: as composed from conf/train.yaml.

    Returns:
        The run's directory.

    Raises:
        HEp2Error: a setting, an input or a file is wrong; the message says how to mend it.
    """
    run = RunDir(run_path(cfg))
    if rank_zero_only.rank == 0:
        run.claim(cfg)
    if run.finished:
        log.info("%s is finished already (overwrite=true makes it anew)", run.path)
        return run
    started = time.monotonic()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    fold = open_fold(cfg)
    task, inputs = STAGES[cfg.stage.task](cfg, fold)
    datamodule = HEp2DataModule(
        inputs, fold.cells.labels, fold.split, cfg.stage.batch_size, cfg.seed, cfg.data.workers
    )
    loggers = _loggers(cfg, fold, run)
    exit_code = 1
    try:
        trainer = _train(cfg, fold, run, task, datamodule, loggers)
        if trainer.is_global_zero:
            figures = _score(task, fold, datamodule, run)
            seconds = round(time.monotonic() - started, 1)
            extent = {"epochs": trainer.current_epoch, "seconds": seconds}
            tracking.log_summary(loggers, figures["metrics"])
            run.write_result(describe(cfg, fold) | figures | extent)
            log.info("%s: %s", run.path, _headline(figures["metrics"]))
        exit_code = 0
    finally:
        tracking.finish(loggers, exit_code)
    return run


def _autoencoder(cfg: DictConfig, fold: Fold) -> tuple[Task, Inputs]:
    """Stage 1: a fresh autoencoder, images with augmentation."""
    task = Reconstruction(
        architecture=cfg.model.architecture,
        network=_plain(cfg.model.network),
        loss=cfg.stage.loss,
        optimizer=_plain(cfg.stage.optimizer),
        provenance=fold.provenance,
    )
    return task, _images(cfg, fold)


def _head(cfg: DictConfig, fold: Fold) -> tuple[Task, Inputs]:
    """Stage 2: the fold's own encoder, frozen, and a fresh head on its cached latents."""
    path = encoder_path(cfg, selected=not fold.split.note)
    checkpoint = read_encoder(path, fold.provenance, train_command(cfg, cfg.features.stage))
    head = {key: value for key, value in _plain(cfg.head).items() if key != "name"}
    task = Classification(
        architecture=checkpoint.architecture,
        network=checkpoint.network,
        head=head,
        classes=list(fold.cells.classes),
        freeze=True,
        optimizer=_plain(cfg.stage.optimizer),
        class_weights=_class_weights(cfg, fold),
        protocol=fold.protocol,
        provenance=fold.provenance,
    )
    checkpoint.load_into(task.encoder, path)
    on_gpu = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    inputs = latents_of_fold(
        task.encoder.to("cuda" if on_gpu else "cpu"),
        fold,
        cfg.features.orientations,
        Path(cfg.cache_dir),
        cfg.seed,
    )
    return task, inputs


STAGES = {"autoencoder": _autoencoder, "head": _head}


def _images(cfg: DictConfig, fold: Fold) -> CellImages:
    settings = {key: value for key, value in _plain(cfg.augment).items() if key != "name"}
    wanted = any(settings.values())
    return CellImages(fold.cells, Augmentation(**settings, seed=cfg.seed) if wanted else None)


def _class_weights(cfg: DictConfig, fold: Fold) -> list[float] | None:
    """None, the balanced ones, or those that the configuration lists."""
    asked = _plain(cfg.stage.class_weights)
    classes = fold.cells.classes
    if asked == "balanced":
        return balanced_weights(fold.cells.labels[fold.split.train], len(classes))
    if asked is not None and (not isinstance(asked, list) or len(asked) != len(classes)):
        raise HEp2Error(
            f"stage.class_weights={asked} must be null, balanced, or a list of one weight for "
            f"each of {', '.join(classes)}"
        )
    return asked


def _loggers(cfg: DictConfig, fold: Fold, run: RunDir) -> list[Any]:
    identity = tracking.RunIdentity(
        name=cfg.name,
        stage=cfg.stage.name,
        method=method_of(cfg),
        data=fold.cells.name,
        protocol=cfg.protocol.name,
        leaky=fold.split.leaky,
        synthetic=fold.cells.synthetic,
        fold=cfg.fold,
        seed=cfg.seed,
    )
    entries = instantiate(cfg.logger, _convert_="all")
    return tracking.make_loggers(entries, run.path, identity, _plain(cfg))


def _train(
    cfg: DictConfig,
    fold: Fold,
    run: RunDir,
    task: Task,
    datamodule: HEp2DataModule,
    loggers: list[Any],
) -> L.Trainer:
    """Fit, from the last whole epoch where there is one, and take the weights to be tested."""
    # Where a pattern has no validation cell the loss there must not choose: the last epoch counts.
    keeper = checkpoints(run.path, None if fold.split.note else "val/loss")
    named = list(instantiate(cfg.callbacks, _convert_="all").values())
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=[EpochSeed(cfg.seed), keeper, *named],
        logger=loggers,
        default_root_dir=str(run.path),
        _convert_="all",
    )
    resume = str(run.last) if run.last.is_file() else None
    trainer.fit(task, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    if trainer.is_global_zero:
        selected = run.last if fold.split.note else run.best
        task.load_state_dict(read_checkpoint(selected)["state_dict"], strict=True)
    return trainer


def _score(task: Task, fold: Fold, datamodule: HEp2DataModule, run: RunDir) -> dict[str, Any]:
    """Figures on the test cells; predictions.csv where there are predictions."""
    loader = datamodule.test_dataloader()
    if isinstance(task, Reconstruction):
        score = score_reconstruction(task, loader, _mean_image(fold))
        if score.collapsed:
            log.warning("the autoencoder has collapsed: %s; its latents mean nothing", score)
        figures = {name: getattr(score, name) for name in score.__dataclass_fields__}
        return {"metrics": metrics(fold, "test", figures), "collapsed": score.collapsed}
    rows = probabilities(task, loader)
    write_atomic(run.predictions, predictions_csv(fold, rows))
    test, classes = fold.split.test, fold.cells.classes
    targets, outputs = fold.cells.labels[test], rows.argmax(axis=1)
    specimens = fold.cells.specimens[test]
    known = specimens if np.all(specimens != "") else None
    figures = summarise(targets, outputs, rows, len(classes), known)
    recall = recalls(confusion_counts(targets, outputs, len(classes)))
    return {
        "metrics": metrics(fold, "test", figures),
        "recall": {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(classes, recall, strict=True)
        },
    }


def _mean_image(fold: Fold) -> torch.Tensor:
    total = np.zeros(fold.cells.images.shape[1:])
    for cell in fold.split.train:
        total += fold.cells.images[cell]
    mean = total / (len(fold.split.train) * fold.cells.full_scale)
    return torch.from_numpy(mean).float()


def _plain(node: Any) -> Any:
    """Plain containers: checkpoints and constructors never see a DictConfig."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _headline(figures: dict[str, float | None]) -> str:
    wanted = ("/aca", "/mca", "/mse")
    shown = {key: value for key, value in figures.items() if key.endswith(wanted)}
    return ", ".join(f"{key} {value:.4f}" for key, value in shown.items() if value is not None)
