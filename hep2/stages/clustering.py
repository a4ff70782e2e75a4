"""Unsupervised clusters in the latents of the fold's own autoencoder, compared with patterns."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from hep2.config import device, plain
from hep2.data.fold import Fold
from hep2.data.inputs import CellImages
from hep2.features.encoder import own_encoders
from hep2.files import write_atomic
from hep2.metrics import agreement, match
from hep2.rundir.directory import RunDir
from hep2.rundir.predictions import predictions_csv
from hep2.rundir.result import name_metrics
from hep2.stages.autoencoder import augmented_images
from hep2.stages.training import NetworkStage
from hep2.tasks.clustering import Clustering


def clustering(cfg: DictConfig, fold: Fold, run: RunDir) -> "ClusteringStage":
    """The fold's autoencoder, loaded whole, and centres by k-means on its latents.

    Raises:
        HEp2Error: the autoencoder is missing, or belongs to another fold.
    """
    (start,) = own_encoders(cfg, fold)
    images = augmented_images(cfg, fold, start.view)

    def new_task(cfg: DictConfig) -> Clustering:
        task = Clustering(
            architecture=start.architecture,
            network=start.network,
            clusters=len(fold.cells.classes),
            loss=cfg.stage.loss,
            clustering_weight=cfg.stage.clustering_weight,
            optimizer=plain(cfg.stage.optimizer),
            provenance=fold.provenance,
        )
        start.load_into(task.encoder, "encoder")
        start.load_into(task.decoder, "decoder")
        if not run.last.is_file():  # else the centres come with the checkpoint
            task.to(device(cfg)).start(images, fold.split.train, cfg.seed)
        return task

    return ClusteringStage(cfg, fold, run, new_task, images)


@dataclass
class ClusteringStage(NetworkStage):
    """Scored by the agreement of clusters with patterns; labels are read here alone."""

    inputs: CellImages
    task: Clustering = field(init=False)

    @property
    def selecting(self) -> bool:
        """Never: no figure of validation says which clusters are good."""
        return False

    def score(self) -> dict[str, Any]:
        """Agreement on the test cells, and predictions under the matching of the training cells."""
        labels, split = self.fold.cells.labels, self.fold.split
        count = len(self.fold.cells.classes)
        seen = self.task.assignments(self.inputs, split.train).argmax(dim=1).cpu().numpy()
        patterns = match(labels[split.train], seen, count).patterns
        shares = self.task.assignments(self.inputs, split.test).double().cpu().numpy()
        named = shares[:, patterns.argsort()]  # columns in the order of the patterns
        clusters = named.argmax(axis=1)
        write_atomic(self.run.predictions, predictions_csv(self.fold, named))
        figures = {
            "clustering_accuracy": match(labels[split.test], clusters, count).accuracy,
            "accuracy_matched_in_training": float((clusters == labels[split.test]).mean()),
            **agreement(labels[split.test], clusters),
        }
        return {
            "labels_in_features": False,
            "metrics": name_metrics(self.fold, "test", figures),
        }
