"""How many minutes to a good number: dcae_plus, a bare script of the same recipe, codebook_nch.

    python -m benchmarks time_to_quality          half an hour and more; no part of `make bench`

Fold 0 of `published` on synthetic cells that have been simulated before. Each side trains the
encoder anew for every number of EPOCHS, then a head, and is asked for its mean class accuracy.

    ours     `train.py` for the encoder, and again for the head, as a user starts them.
    bare     the script that a user would write: the same network, perturbations, losses, optimiser,
             schedule and head, in two plain loops of float32 with PyTorch's defaults. No log, no
             checkpoint, no report, no validation.
    codebook `train.py experiment=codebook_nch`: what can be had without a network.

"To 80 %" is the time of the fewest epochs that reach it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import ROOT, Row, configured

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hep2.data.fold import Fold

EPOCHS = (5, 10, 60)  # of the encoder; the last is the recipe's
GOOD = 0.8
DATA = ("data=synthetic", "protocol=published", "fold=0")
PLUS = ("experiment=dcae_plus", *DATA)

Measured = tuple[float, float]  # seconds and MCA


def rows() -> list[Row]:
    """Three rows: to 80 %, to the end, and the codebook's."""
    with tempfile.TemporaryDirectory() as folder:
        _train(folder, "simulated", "experiment=chance", *DATA)  # simulates the cells
        codebook = _train(folder, "codebook", "experiment=codebook_nch", *DATA)
        ours = {epochs: _ours(folder, epochs) for epochs in EPOCHS}
        bare = {epochs: bare_script(folder, epochs) for epochs in EPOCHS}
    for name, side in (("ours", ours), ("bare", bare), ("codebook", {0: codebook})):
        for epochs, (seconds, mca) in side.items():
            print(f"{name}, {epochs} epochs: {seconds:.0f} s, MCA {mca:.3f}", file=sys.stderr)
    good, last = f"{GOOD:.0%}", EPOCHS[-1]
    our_first, bare_first = _first(ours), _first(bare)
    return [
        _row(f"dcae_plus to an MCA of {good}, against a bare script", our_first, bare_first),
        _row("dcae_plus to its end, against a bare script", ours[last][0], bare[last][0]),
        _row(f"dcae_plus to an MCA of {good}, against codebook_nch", our_first, codebook[0]),
    ]


def _row(name: str, ours: float, other: float) -> Row:
    return Row(name, ours / 60, other / 60, "min", other / ours, None, at_least=True)


def _first(side: dict[int, Measured]) -> float:
    """Seconds of the fewest epochs that are good; infinite where none are."""
    return min((seconds for seconds, mca in side.values() if mca >= GOOD), default=float("inf"))


def _ours(folder: str, epochs: int) -> Measured:
    name = f"epochs{epochs}"
    first, _ = _train(folder, name, *PLUS, "stage=dcae_plus", f"stage.epochs={epochs}")
    second, mca = _train(folder, name, *PLUS)
    return first + second, mca


def _train(folder: str, name: str, *words: str) -> Measured:
    """Seconds of a run as a user's process, and its MCA; NaN of an encoder."""
    places = (f"name={name}", f"runs_dir={folder}/runs", f"cache_dir={folder}/cache")
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), *words, *places]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    results = Path(folder, "runs", name).glob("*/*/fold0/seed0/result.json")
    newest = max(results, key=lambda file: file.stat().st_mtime)
    metrics = json.loads(newest.read_text())["metrics"]
    return seconds, float(metrics.get("published/test/mca", float("nan")))


def bare_script(folder: str, epochs: int, *words: str) -> Measured:
    """Seconds and MCA of the bare script; `words` are more settings."""
    import torch

    from hep2.data.fold import open_fold
    from hep2.metrics import confusion_counts, mca

    places = (f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", *words)
    stages = [configured(*PLUS, *places, *word) for word in (["stage=dcae_plus"], [])]
    started = time.perf_counter()
    torch.manual_seed(0)
    encoder = _encoder(stages[0], open_fold(stages[0]), epochs)
    outputs, fold = _head(stages[1], open_fold(stages[1]), encoder)
    seconds = time.perf_counter() - started
    labels = fold.cells.labels[fold.split.test]
    return seconds, float(mca(confusion_counts(labels, outputs, len(fold.cells.classes))))


def _encoder(cfg: Any, fold: "Fold", epochs: int) -> "nn.Module":
    """Stage 1: denoise two views, and let those of a specimen's cells agree."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from hep2.data.cells import numbered
    from hep2.data.views import standardised
    from hep2.nets.dcae import Decoder, Encoder
    from hep2.stages.autoencoder import augmented_images
    from hep2.tasks.joint_embedding import nt_xent
    from hep2.tasks.perturbation import keys_of, perturbed, posed

    shape, settings = (cfg.data.image_size, list(cfg.model.network.widths)), cfg.stage.objective
    encoder, decoder = Encoder(*shape), Decoder(*shape, bounded=False)
    first, second = settings.projector
    channels = shape[1][-1]
    projector = nn.Sequential(nn.Linear(channels, first), nn.BatchNorm1d(first), nn.ReLU(),
                              nn.Linear(first, second))  # fmt: skip
    images = augmented_images(cfg, fold, "standardised", raw=True)
    specimens = torch.from_numpy(numbered(fold.cells.specimens))

    def loss(cells: Any, epoch: int) -> "Tensor":
        clean, where = images.gather(cells, epoch), torch.from_numpy(cells)
        keys = [keys_of(where, 0, epoch, draw) for draw in range(3)]
        both = [clean, posed(clean, keys[2], **settings.pose)]
        views = [standardised(perturbed(*view)) for view in zip(both, keys[:2], strict=True)]
        latent = encoder(torch.cat(views))
        rebuilt = F.mse_loss(decoder(latent), standardised(torch.cat(both)))
        pooled = latent.view(len(latent), channels, -1).mean(dim=2)
        one, other = projector(pooled).split(len(clean))
        agreed = nt_xent(one, other, specimens[where], settings.temperature)
        return rebuilt + settings.weight * agreed

    _learn([encoder, decoder, projector], loss, fold.split.train, epochs, cfg.stage)
    return encoder.eval()


def _head(cfg: Any, fold: "Fold", encoder: "nn.Module") -> tuple[Any, "Fold"]:
    """Stage 2: mean latents over eight orientations, and the perceptron on them."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from hep2.data.inputs import CellImages
    from hep2.data.views import ORIENTATIONS, oriented
    from hep2.nets.mlp import MLP
    from hep2.stages.classifier import even_chances

    plain, everyone = CellImages(fold.cells, view="standardised"), np.arange(len(fold.cells))
    with torch.no_grad():
        latents = torch.cat([
            torch.stack([encoder(oriented(part, turn)) for turn in range(ORIENTATIONS)]).mean(dim=0)
            for part in plain.gather(everyone, None).split(256)
        ])  # fmt: skip
    labels, classes = torch.from_numpy(fold.cells.labels), len(fold.cells.classes)
    shape = {key: cfg.head[key] for key in ("widths", "dropout", "batch_norm", "channels")}
    net = MLP(latents.shape[1], classes, **shape)
    share = torch.distributions.Beta(cfg.stage.mixup, cfg.stage.mixup)

    def loss(cells: Any, epoch: int) -> "Tensor":
        own, mixed = share.sample(), torch.randperm(len(cells))
        features, targets = latents[cells], labels[cells]
        outputs = net(own * features + (1 - own) * features[mixed])
        smooth = {"label_smoothing": cfg.stage.label_smoothing}
        kept = F.cross_entropy(outputs, targets, **smooth)
        return own * kept + (1 - own) * F.cross_entropy(outputs, targets[mixed], **smooth)

    train = fold.split.train
    chances = even_chances(fold.cells.labels[train], fold.cells.specimens[train])
    _learn([net], loss, train, cfg.stage.epochs, cfg.stage, chances)
    with torch.no_grad():
        return net.eval()(latents[fold.split.test]).argmax(dim=1).numpy(), fold


def _learn(
    nets: "Sequence[nn.Module]",
    loss: "Callable[[Any, int], Tensor]",
    cells: Any,
    epochs: int,
    stage: Any,
    chances: Any = None,
) -> None:
    """The usual loop: shuffled batches, or cells by chance, AdamW, one cycle of the rate."""
    import numpy as np
    import torch

    size = min(stage.batch_size, len(cells))
    steps = len(cells) // size
    weights = [weight for net in nets for weight in net.parameters()]
    rate, decay = stage.optimizer.lr, stage.optimizer.weight_decay
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    for epoch in range(epochs):
        rng = np.random.default_rng(epoch)
        drawn = chances is not None
        order = rng.choice(cells, len(cells), p=chances) if drawn else rng.permutation(cells)
        for start in range(0, steps * size, size):
            optimizer.zero_grad()
            loss(order[start : start + size], epoch).backward()
            optimizer.step()
            schedule.step()
