"""Finished run directories with made-up predictions, written by the schema of a real run."""

import csv
import json

import numpy as np

FIVE = ("homogeneous", "coarse_speckled", "fine_speckled", "nucleolar", "centromere")


def cells_of_fold(fold, classes=FIVE, specimens_per_class=3, cells=8, present=None):
    """IDs, specimens and targets of a fold's test cells."""
    rows = []
    for target in present if present is not None else range(len(classes)):
        for specimen in range(specimens_per_class):
            name = f"f{fold}-{target}-{specimen}"
            rows += [(f"{name}-{cell}", name, target) for cell in range(cells)]
    return rows


def write_run(runs_dir, method="dcae-mlp", fold=0, seed=0, rows=None, accuracy=0.8, **changes):
    """Write one finished run; returns its path, targets, outputs and probabilities."""
    fields = {"name": "default", "data": "synthetic", "synthetic": True, "protocol": "published",
              "leaky": False, "folds": 5, "stage": "head", "data_key": "0" * 15 + "1",
              "classes": list(FIVE), **changes}  # fmt: skip
    classes = fields["classes"]
    rows = cells_of_fold(fold, classes) if rows is None else rows
    rng = np.random.default_rng([fold, seed, len(method), sum(map(ord, method))])
    targets = np.array([target for *_, target in rows])
    noise = rng.integers(0, len(classes), len(rows))
    outputs = np.where(rng.random(len(rows)) < accuracy, targets, noise)
    probabilities = rng.dirichlet(np.ones(len(classes)), len(rows)) * 0.4
    probabilities[np.arange(len(rows)), outputs] += 0.6
    path = runs_dir / fields["name"] / f"{fields['data']}-{fields['protocol']}"
    path = path / f"{fields['stage']}-{method}" / f"fold{fold}" / f"seed{seed}"
    path.mkdir(parents=True)
    with (path / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "specimen", "target", "output", *(f"p_{c}" for c in classes)])
        for (name, specimen, target), output, shares in zip(
            rows, outputs, probabilities, strict=True
        ):
            texts = [f"{share:.9g}" for share in shares]
            writer.writerow([name, specimen, classes[target], classes[output], *texts])
    result = {
        **fields,
        "method": method,
        "fold": fold,
        "seed": seed,
        "cells": {"train": 362, "val": 90, "test": len(rows)},
        "specimens": {"train": 15, "val": 5, "test": 20},
        "split_hash": f"{fold:016x}",
        "validation": "",
        "metrics": {f"{fields['protocol']}/test/aca": float((outputs == targets).mean())},
        "recall": {},
        "epochs": 40,
        "seconds": 12.3,
        "encoder_seconds": 10.0,
        "labels_in_features": False,
        "kind": "classification",
        "versions": {"torch": "2"},
        "git_commit": "",
        "command": "python train.py stage=head",
        "a_later_key": [1],
    }
    (path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return path, targets, outputs, probabilities


def write_reconstruction(runs_dir, fold=0):
    """Write a finished run of stage dcae, which classifies nothing."""
    path, *_ = write_run(runs_dir, method="dcae", stage="dcae", fold=fold)
    (path / "predictions.csv").unlink()
    result = json.loads((path / "result.json").read_text())
    del result["recall"]
    result |= {"kind": "reconstruction", "metrics": {"published/test/mse": 0.004}}
    (path / "result.json").write_text(json.dumps(result))
    return path
