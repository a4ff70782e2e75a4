"""Greedy layer-wise pre-training of a dense autoencoder."""

import torch
from torch import nn
from torch.nn import functional as F

from hep2.data.datamodule import HEp2DataModule, TrainingOrder
from hep2.errors import HEp2Error
from hep2.files import progress_bar
from hep2.nets.dense import DenseDecoder, DenseEncoder
from hep2.tasks.reconstruction import Reconstruction


def pretrain_layers(
    task: Reconstruction, datamodule: HEp2DataModule, epochs: int, lr: float
) -> None:
    """Train each pair of layers to give back what the layers below it make of the images.

    Hinton and Salakhutdinov (2006) pre-train with restricted Boltzmann machines; plain
    autoencoders (Bengio et al. 2007) do the same service here. The layers below stay as they are.

    The task is untrained, on the device that shall do the work. Each pair gets this many epochs,
    whose batches are those of the first epochs of training.

    Raises:
        HEp2Error: the network is not dense.
    """
    encoder, decoder = task.encoder, task.decoder
    if not isinstance(encoder, DenseEncoder) or not isinstance(decoder, DenseDecoder):
        raise HEp2Error(
            "stage.pretrain_epochs trains dense layers one by one: choose model=dense_ae, or "
            "stage.pretrain_epochs=0"
        )
    levels = list(zip(encoder.levels, reversed(decoder.levels), strict=True))
    cells, size, seed = datamodule.split.train, datamodule.batch_size, datamodule.seed
    done = 0  # batches that the layers under way have seen
    order = TrainingOrder(cells, size, seed, lambda: done)
    for depth, (inward, outward) in enumerate(levels):
        done, pair = 0, nn.Sequential(inward, outward)
        optimizer = torch.optim.Adam(pair.parameters(), lr=lr)
        name = f"layer {depth + 1} of {len(levels)}"
        for _ in progress_bar(range(epochs), name):
            for key in order:
                batch = {k: value.to(task.device) for k, value in datamodule.batches[key].items()}
                image = datamodule.on_after_batch_transfer(batch, 0)["image"]
                with torch.no_grad():
                    below = encoder.levels[:depth](image.flatten(1))
                loss = F.mse_loss(pair(below), below)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                done += 1
