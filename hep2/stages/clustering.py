"""Unsupervised clusters in the latents of the fold's own autoencoder, compared with patterns."""

from typing import Any

from hep2.config import device, plain
from hep2.data.inputs import CellImages
from hep2.features.encoder import own_encoders
from hep2.files import write_atomic
from hep2.metrics import agreement, match
from hep2.rundir.predictions import predictions_csv
from hep2.rundir.result import name_metrics
from hep2.stages.autoencoder import augmented_images
from hep2.stages.training import NetworkStage
from hep2.tasks.clustering import Clustering


class ClusteringStage(NetworkStage):
    """Scored by the agreement of clusters with patterns; labels are read here alone."""

    inputs: CellImages
    task: Clustering

    def configure_inputs(self) -> CellImages:
        """The fold's images, augmented, as its own autoencoder has seen them."""
        (self.start,) = own_encoders(self.cfg, self.fold)
        return augmented_images(self.cfg, self.fold, self.start.view)

    def configure_task(self) -> Clustering:
        """The autoencoder, loaded whole, and centres by k-means on its latents."""
        cfg, fold, start = self.cfg, self.fold, self.start
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
        if not self.run.last.is_file():  # else the centres come with the checkpoint
            task.to(device(cfg)).start(self.inputs, fold.split.train, cfg.seed)
        return task

    @property
    def monitor(self) -> None:
        """No metric of validation says which clusters are good."""

    def score(self) -> dict[str, Any]:
        """Agreement on the test cells, and predictions under the matching of the training cells."""
        split, count = self.fold.split, len(self.fold.cells.classes)
        learned, targets = (self.fold.cells.labels[part] for part in (split.train, split.test))
        seen = self.task.assignments(self.inputs, split.train).argmax(dim=1).cpu().numpy()
        patterns = match(learned, seen, count).patterns
        shares = self.task.assignments(self.inputs, split.test).double().cpu().numpy()
        named = shares[:, patterns.argsort()]  # columns in the order of the patterns
        clusters = named.argmax(axis=1)
        write_atomic(self.run.predictions, predictions_csv(self.fold.cells, split.test, named))
        metrics = {
            "clustering_accuracy": match(targets, clusters, count).accuracy,
            "accuracy_matched_in_training": float((clusters == targets).mean()),
            **agreement(targets, clusters),
        }
        return {"labels_in_features": False, "metrics": name_metrics(self.fold, metrics)}
