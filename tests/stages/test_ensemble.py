"""The mean of what finished runs say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CHOOSING, TINY_DATA, Configure, composed
from helpers.trained_runs import check_predicts_as_tested, write_test_cells
from omegaconf import DictConfig

from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.prediction.embed import embed
from hep2.prediction.models import load_ensemble
from hep2.run import fit
from hep2.rundir.layout import member_runs
from hep2.rundir.result import read_run
from hep2.sweep.jobs import plan

HEADS = ("stage=head", "features=pixels", "stage.epochs=2")
MEMBERS = "stage.members=[head-pixels-mlp,head-pixels-chance]"


@pytest.fixture
def ensemble(configure: Configure) -> Configure:
    """An ensemble beside the tiny runs, which have more settings than it."""
    tiny = configure()
    where = (f"runs_dir={tiny.runs_dir}", f"cache_dir={tiny.cache_dir}", "logger=csv")

    def asked(*words: str) -> DictConfig:
        return composed(*TINY_DATA, *CHOOSING, *where, "stage=ensemble", *words)

    return asked


def test_it_says_the_mean_of_its_members(
    configure: Configure, ensemble: Configure, fold: Fold, tmp_path: Path
) -> None:
    members = [fit(configure(*HEADS, f"head={name}")) for name in ("mlp", "chance")]
    whole = fit(ensemble(MEMBERS))
    run = read_run(whole.path)
    assert run.kept["members"] == [f"head-pixels-{name}/fold0/seed0" for name in ("mlp", "chance")]
    check_predicts_as_tested(whole, write_test_cells(fold, tmp_path / "cells"), tmp_path)
    with pytest.raises(HEp2Error, match=r"no vectors of its own: choose one .*head-pixels-mlp/"):
        embed(str(whole.path), tmp_path, None, str(tmp_path / "v.npy"))
    parts = [read_run(one.path) for one in members]
    mean = np.mean([part.cells.probabilities for part in parts], axis=0)
    assert np.allclose(run.cells.probabilities, mean, rtol=0, atol=1e-8)
    assert np.array_equal(run.cells.outputs, mean.argmax(axis=1))
    assert np.array_equal(run.cells.ids, parts[0].cells.ids)
    assert (run.method, run.labels_in_features) == ("ensemble", None)
    assert run.encoder_seconds == pytest.approx(sum(p.seconds + p.encoder_seconds for p in parts))


def test_members_share_an_encoder_which_counts_once(
    configure: Configure, ensemble: Configure
) -> None:
    """Its seconds, and that it has learned nothing."""
    encoder = fit(configure("stage=dcae"))
    result = json.loads(encoder.result.read_text())
    encoder.result.write_text(json.dumps(result | {"seconds": 1000, "collapsed": True}))
    heads = [
        read_run(fit(configure("stage=head", f"head={name}")).path) for name in ("mlp", "linear")
    ]
    run = read_run(fit(ensemble("stage.members=[head-dcae-mlp,head-dcae-linear]")).path)
    assert run.encoder_seconds == pytest.approx(1000 + sum(head.seconds for head in heads))
    assert run.kept["collapsed_encoders"] == ["dcae-dcae/fold0/seed0"]
    mixed = ("stage.members=[head-dcae-mlp,head-pixels-chance]", "stage.label=mixed")
    fit(configure("stage=head", "features=pixels", "head=chance"))
    assert read_run(fit(ensemble(*mixed)).path).labels_in_features is False


def test_a_member_whose_settings_are_damaged_is_named(
    configure: Configure, ensemble: Configure
) -> None:
    member = fit(configure(*HEADS, "head=chance"))
    member.config.write_text("data: [")
    with pytest.raises(HEp2Error, match=r"head-pixels-chance/fold0/seed0/config\.yaml cannot be r"):
        fit(ensemble("stage.members=[head-pixels-chance]"))


@pytest.mark.parametrize("leaf", ["head-pixels-mlp", "head-pixels-mlp-2specimens"])
def test_members_have_as_few_labels(ensemble: Configure, leaf: str) -> None:
    cfg = ensemble(f"stage.members=[{leaf}]", "protocol.labelled=2")
    assert [run.path.parts[-3] for run in member_runs(cfg)] == ["head-pixels-mlp-2specimens"]


def test_over_seeds(configure: Configure, ensemble: Configure) -> None:
    members = [fit(configure(*HEADS, f"seed={seed}")) for seed in (0, 1)]
    asked = ("stage.members=[head-pixels-mlp]", "stage.seeds=[0,1]", "stage.label=two_seeds")
    run = read_run(fit(ensemble(*asked)).path)
    one, two = (read_run(member.path).cells.probabilities for member in members)
    assert np.allclose(run.cells.probabilities, (one + two) / 2, rtol=0, atol=1e-8)


def test_cells_are_as_strange_as_its_members_find_them_on_the_mean(
    configure: Configure, ensemble: Configure
) -> None:
    members = [fit(configure(*HEADS, f"head={name}")) for name in ("mlp", "chance")]
    cells = len(read_run(members[0].path).cells.ids)
    for place, member in enumerate(members):
        table = pd.read_csv(member.predictions, dtype=str)
        table["novelty"] = np.linspace(0.5, 1.5 + place, cells).astype(str)
        table.to_csv(member.predictions, index=False)
    found = read_run(fit(ensemble(MEMBERS)).path).cells
    assert found.novelty == pytest.approx(np.linspace(0.5, 2, cells), rel=1e-5)
    assert found.unlike is not None and found.unlike.any() and not found.unlike.all()
    table.drop(columns="novelty").to_csv(members[1].predictions, index=False)
    assert read_run(fit(ensemble(MEMBERS, "overwrite=true")).path).cells.novelty is None


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["../../other/fold0/seed0"], "key members is"),
        (["ensemble-ensemble/fold0/seed0"], "is a member of itself"),
        (["head-pixels-mlp/fold0/seed7"], "its member .*seed7 is not there"),
    ],
)
def test_members_are_runs_beside_it(
    named: list[str], told: str, configure: Configure, ensemble: Configure
) -> None:
    fit(configure(*HEADS, "head=chance"))
    whole = fit(ensemble("stage.members=[head-pixels-chance]"))
    result = json.loads(whole.result.read_text())
    whole.result.write_text(json.dumps(result | {"members": named}))
    with pytest.raises(HEp2Error, match=told):
        load_ensemble(str(whole.path), Path())


def test_what_is_missing_is_named(configure: Configure, ensemble: Configure) -> None:
    with pytest.raises(HEp2Error, match=r"not finished: .*head-pixels-mlp.*head-pixels-chance"):
        fit(ensemble(MEMBERS))
    with pytest.raises(HEp2Error, match=r"names no run: e\.g\. stage\.members="):
        fit(ensemble("stage.members=[]"))
    fit(configure("stage=dcae", "stage.epochs=1"))
    with pytest.raises(HEp2Error, match="has not classified the test cells of this fold"):
        fit(ensemble("stage.members=[dcae-dcae]"))


def test_in_a_sweep_it_waits_for_its_members(configure: Configure, ensemble: Configure) -> None:
    words = [(*HEADS, "head=mlp"), (*HEADS, "head=chance"), (MEMBERS,)]
    configured = [*(configure(*each) for each in words[:2]), ensemble(MEMBERS)]
    assert [job.needs for job in plan(words, configured)] == [(), (), (1, 2)]
