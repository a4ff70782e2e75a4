"""Finished runs with tiny, untrained networks: enough to predict with, made in milliseconds."""

import json

import cv2
import numpy as np
import pandas as pd
import torch

from hep2.prediction.predict import predict
from hep2.tasks.classification import Classification
from hep2.tasks.reconstruction import Reconstruction

CLASSES = ["homogeneous", "=speckled", "centromere"]
NETWORK = {"image_size": 16, "widths": [4, 8]}
OPTIMIZER = {"lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"}
CONFIG = "data:\n  image_size: 16\n  channel: green\n"


def write_pair(runs, fold=0, method="dcae-mlp", limit=0.5, validation="", seed=0,
               view="intensity", orientations=1):  # fmt: skip
    """An autoencoder and the head on it; returns the head's directory and task."""
    torch.manual_seed(100 * seed + fold)
    provenance = {"data": "0" * 16, "split": f"{fold:016x}", "protocol": "specimen", "fold": fold,
                  "seed": 0}  # fmt: skip
    autoencoder = Reconstruction("dcae", NETWORK, "mse", OPTIMIZER, provenance, view)
    head = {"architecture": "mlp", "widths": [6]}
    task = Classification("dcae", NETWORK, head, CLASSES, True, OPTIMIZER, None, "specimen",
                          provenance, view, orientations)  # fmt: skip
    for module in autoencoder.modules():  # batch statistics that are not those of a fresh network
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.05, 0.3)
    task.head.layers[-1].weight.data.mul_(20)  # so that cells differ in their outputs
    task.head.layers[-1].bias.data.zero_()
    task.encoder.load_state_dict(autoencoder.encoder.state_dict())
    root = runs / "default" / "toy-specimen"
    file = "last.ckpt" if validation else "best.ckpt"
    kept = {"novelty": {"percentile": 99, "mse": limit, "cells": 40}, "validation": validation}
    write(root / "dcae-dcae" / f"fold{fold}" / "seed0", autoencoder, file, kept)
    path = root / f"head-{method}" / f"fold{fold}" / "seed0"
    write(path, task, file, {"recall": {}, "validation": validation})
    return path, task.eval()


def write(path, task, file, kept):
    path.mkdir(parents=True, exist_ok=True)
    hparams = dict(task.hparams)
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hparams}, path / file)
    (path / "config.yaml").write_text(CONFIG)
    result = {"classes": CLASSES, "data": "toy", "synthetic": True, "data_key": "0" * 16, **kept}
    (path / "result.json").write_text(json.dumps(result))


def write_test_cells(fold, folder, masks=None):
    """The test cells of a fold as images, in the order of its predictions.csv, and their masks."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, cell in enumerate(fold.split.test):
        assert cv2.imwrite(str(folder / f"{place:03d}.png"), fold.cells.images[cell, 0])
        if masks is not None and masks[cell].any():
            assert cv2.imwrite(str(folder / f"{place:03d}_mask.png"), masks[cell, 0])
    return folder


def check_predicts_as_tested(run, cells, tmp_path):
    """task=predict gives the test cells of a run the probabilities of its predictions.csv."""
    predict(str(run.path), tmp_path, str(cells), str(tmp_path / "calls.csv"), None)
    found, expected = (pd.read_csv(file) for file in (tmp_path / "calls.csv", run.predictions))
    names = [name for name in expected if name.startswith("p_")]
    assert np.allclose(found[names], expected[names], rtol=0, atol=1e-5)
    assert (found.output == expected.output).mean() > 0.99  # but for ties
    return found
