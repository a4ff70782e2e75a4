"""What `evaluate.py` says about runs that are finished, at work, broken or not yet begun."""

import os

import pytest
from conftest import Configure
from helpers.made_up_runs import write_reconstruction, write_run

from hep2.errors import HEp2Error
from hep2.files import locked
from hep2.programs.evaluate import EvaluateConfig, report
from hep2.rundir.directory import RunDir
from hep2.rundir.state import as_text, run_states

METRICS = "epoch,step,val/loss\n0,3,0.5\n1,7,0.25\n"


def begin(path, metrics=METRICS):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("trainer: {max_epochs: 6}\n")
    (path / "metrics.csv").write_text(metrics)
    return path


def test_every_run_is_in_its_state_with_the_figures_so_far(tmp_path):
    done, *_ = write_run(tmp_path, fold=0)
    (done / "metrics.csv").write_text(METRICS)
    RunDir(done).record_failure("of an attempt before")
    at_work, broken, cut, waiting = (done.parents[1] / f"fold{fold}/seed0" for fold in range(1, 5))
    begin(broken)
    RunDir(broken).record_failure("cannot write here:\nfree some space")
    RunDir(broken).record_failure("another rank, later")
    begin(cut, "epoch,val/loss\n1,no number\n")
    waiting.mkdir(parents=True)
    with locked(begin(at_work) / ".lock", wait=False):
        RunDir(at_work).record_failure("of an attempt before")
        states = run_states(tmp_path / "default")
    where = "synthetic-published/head-dcae-mlp"
    me = f"process {os.getpid()} on {os.uname().nodename}"
    assert as_text(tmp_path / "default", states).splitlines() == [
        f"{tmp_path}/default: finished 1, running 1, failed 1, interrupted 1, missing 1",
        f"  finished    {where}/fold0/seed0  val/loss 0.25",
        f"  running     {where}/fold1/seed0  epoch 2 of 6, val/loss 0.25, {me}",
        f"  failed      {where}/fold2/seed0  cannot write here: free some space",
        f"  interrupted {where}/fold3/seed0  epoch 2 of 6",
        f"  missing     {where}/fold4/seed0",
    ]


def test_when_all_are_finished_a_number_is_enough(tmp_path):
    for fold in range(2):
        write_reconstruction(tmp_path, fold)
    text = as_text(tmp_path / "default", run_states(tmp_path / "default"))
    assert text == f"{tmp_path}/default: finished 2"


def test_the_state_is_told_before_there_is_anything_to_report(tmp_path, capsys):
    begin(tmp_path / "runs/mine/synthetic-published/dcae/fold0/seed0")
    asked = EvaluateConfig(name="mine", runs_dir=f"{tmp_path}/runs", reports_dir=f"{tmp_path}/r")
    with pytest.raises(HEp2Error, match="no finished run, 1 unfinished"):
        report(asked)
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/runs/mine: interrupted 1",
        "  interrupted synthetic-published/dcae/fold0/seed0  epoch 2 of 6, val/loss 0.25",
    ]


@pytest.mark.parametrize("config", ["", "- 1", "trainer: [", "trainer: {max_epochs: many}", "\0"])
def test_a_damaged_configuration_hides_no_run(tmp_path, config):
    path = begin(tmp_path / "default/synthetic-published/dcae/fold0/seed0")
    (path / "config.yaml").write_text(config)
    (one,) = run_states(tmp_path / "default")
    assert (one.path, one.state, one.detail) == (path, "interrupted", "epoch 2, val/loss 0.25")


def test_a_training_that_raises_says_so_until_it_is_done(configure: Configure, monkeypatch):
    from hep2 import run as running

    cfg = configure("stage=dcae", "stage.epochs=1")
    run = RunDir(running.run_path(cfg))
    root = run.path.parents[3]
    for error, state, detail in (
        (HEp2Error("no such luck"), "failed", "no such luck"),
        (ValueError("a bug"), "failed", "ValueError: a bug"),
        (OSError(28, "No space left on device"), "failed", "free some space, and the same"),
        (KeyboardInterrupt(), "interrupted", ""),
    ):

        def raises(cfg, error=error):
            raise error

        monkeypatch.setattr(running, "open_fold", raises)
        with pytest.raises((type(error), HEp2Error)):
            running.fit(cfg)
        (one,) = run_states(root)
        assert one.state == state
        assert detail in one.detail
