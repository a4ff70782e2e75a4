import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import CONF, TINY, TINY_DATA, Trained, composed
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hep2 import cli
from hep2.programs import train
from hep2.rundir.directory import RunDir, configuration_differences
from hep2.rundir.layout import run_path
from hep2.rundir.state import run_states

ROOT = CONF.parent


@dataclass
class Said:
    code: int | str | None
    out: str
    err: str

    def sentence(self) -> str:
        """The one line on the error stream, without its `error: `."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


def options(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


Command = Callable[..., Said]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    cache_dir: Path,
) -> Command:
    """`python train.py ...` in this process; runs go to this test's folder."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as main sets it: taken back after the test
    monkeypatch.setenv("HYDRA_MAIN_MODULE", "__main__")  # finds conf/ as `python train.py` does
    monkeypatch.setattr(logging.root, "handlers", [])
    hydra = HydraConfig.instance()
    monkeypatch.setattr(hydra, "cfg", hydra.cfg)

    def run(*words: str) -> Said:
        where = (f"runs_dir={tmp_path}/runs", f"cache_dir={cache_dir}", "logger=csv")
        argv = ["train.py", *(() if "--help" in words else where), *words]
        monkeypatch.setattr(sys, "argv", argv)
        code: int | str | None = 0
        try:
            cli.main(train.train)
        except SystemExit as end:
            code = end.code
        return Said(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    "words, message",
    [
        (["flod=3"], "there is no setting flod; did you mean fold?"),
        (["stage.epoch=3"], "there is no setting stage.epoch; did you mean stage.epochs?"),
        (["trainer.device=4"], "there is no setting trainer.device; did you mean trainer.devices?"),
        (["nothing_like_it=1"], "there is no setting nothing_like_it (--cfg job shows all"),
        (["data=i3a", "data.source.cells=1"], "no setting data.source.cells with the options ch"),
        (
            ["trainer.profiler=simple"],
            "trainer.profiler is not set yet: add it by +trainer.profile",
        ),
        (["features.source=x"], "there is no setting features.source"),
        (["trainer.max_time=00:00:00:01"], "trainer.max_time=00:00:00:01 is refused: the numbers"),
        (["nothing_like_it=1"], "; +nothing_like_it=1 adds it)"),
        (["stage=daec"], f"stage=daec is not an option: choose one of {options('stage')}"),
        (
            ["protocol=kfold"],
            f"protocol=kfold is not an option: choose one of {options('protocol')}",
        ),
        (["data=hep2"], f"data=hep2 is not an option: choose one of {options('data')}"),
        (["fold=abc"], "'abc'"),
        (["overwrite=perhaps"], "'perhaps'"),
        (["fold="], "fold"),
        (["fold"], "fold"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_code_2(
    words: list[str], message: str, command: Command, tmp_path: Path
) -> None:
    said = command(*words)
    assert message in said.sentence()
    assert said.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        (["data=i3a"], "data=i3a needs the folder of the data set: add data.root=<folder>"),
        (["data=folder"], "data=folder needs the folder of the data set: add data.root=<folder>"),
        (["data=snphep2"], "data=snphep2 needs the folder of the data set: add data.root="),
        (["data=i3a", "data.root=/nowhere/i3a"], "data.root=/nowhere/i3a: no such folder"),
        (["data.image_size=62"], "data.image_size=62 cannot be halved 4 times: choose a multiple"),
        (["data.image_size=4"], "data.image_size=4 must be a whole number from 8 to 1024"),
        (["data.channel=infrared"], "infrared"),
        (["fold=7"], "fold=7 is out of range: protocol=specimen has 0 to 4"),
        (["fold=-1"], "fold=-1 is out of range: protocol=specimen has 0 to 4"),
        (["protocol.folds=1"], "protocol.folds=1 makes no split"),
        (["protocol.validation=1"], "protocol.validation=1 must be a number, from 0, below 1"),
        (["stage.loss=l2"], "stage.loss=l2 is unknown: choose one of mse, l1, ssim"),
        (["stage.optimizer.schedule=step"], "stage.optimizer.schedule=step is unknown: choose one"),
        (["model.architecture=vae"], "network 'vae' is unknown: choose one of dcae"),
        (["+model.network.depth=3"], "depth"),
        (["+trainer.max_epoch=3"], "max_epoch"),
        (["seed=-1"], "seed=-1 must be a whole number from 0 to 4294967295"),
        (["protocol.seed=null"], "protocol.seed=None must be a whole number, 0 or more"),
        (["+protocol.fodls=3"], "protocol.fodls is no setting of protocol=specimen; there"),
        (["+protocol.train=a"], "protocol.train is no setting of protocol=specimen"),
        (["data.source.cells=many"], "cells=many are too few for specimens=20: give a whole"),
        (["data.source.seed=null"], "seed=None is no seed: give a whole number from 0"),
        (["data.source.mixed=[half]"], "mixed=half is not a share of a second pattern"),
        (["data.workers=1.5"], "data.workers=1.5 must be a whole number, 0 or more"),
        (["data.workers=null"], "data.workers=None must be a whole number, 0 or more"),
        (["stage.batch_size=many"], "stage.batch_size=many must be a whole number, 2 or more"),
        (["stage.batch_size=true"], "stage.batch_size=True must be a whole number, 2 or more"),
        (["stage.batch_size=1"], "there must be two cells for each, as networks normalise by"),
        (["stage.optimizer.schedule=[]"], "schedule=[] is unknown: choose one of one_cycle"),
        (["augment.flips=maybe"], "augment.flips=maybe must be true or false"),
        (["augment.rotate=far"], "augment.rotate=far must be a number"),
        (["augment.contrast=-1"], "augment.contrast=-1 must be a number, 0 or more"),
        (["augment.batched=maybe"], "augment.batched=maybe must be true or false"),
        (["model.network.widths=[]"], "model.network.widths is empty: give the width"),
        (["model.network.bounded=no way"], "'dcae': bounded=no way must be true or false"),
        (["stage=cnn", "model.architecture=null"], "model.architecture=None is unknown"),
        (["stage=cnn", "stage.choose_by=acc"], "stage.choose_by=acc is unknown: choose one of"),
        (["stage=cnn", "head.dropout=2"], "'mlp': dropout probability has to be between 0"),
        (
            ["stage=cnn", "head.batch_norm=yes please"],
            "batch_norm=yes please must be true or false",
        ),
        (["stage=cnn", "head.widths=[0]"], "'mlp': widths=[0] must be a list of whole numbers, 1"),
        (["model.network.widths=[4,-8]"], "'dcae': widths=[4, -8] must be a list of whole numbers"),
        (
            ["stage=cnn", "stage.class_weights=[1,a,1,1,1]"],
            "class_weights=a must be a number, 0 or",
        ),
        (["stage.pretrain_epochs=some"], "stage.pretrain_epochs=some must be a whole number, 0 or"),
        (["callbacks.pictures.every=0"], "ReconstructionPictures: every=0 must be a whole number"),
        (["callbacks.probe.cells=many"], "LinearProbe: cells=many must be a whole number, 1 or"),
        (["stage=head"], "needs the encoder of fold 0, but "),
        (["stage=head", "encoder=none.ckpt"], "the encoder none.ckpt is not there; train it first"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_code_1(
    words: list[str], message: str, command: Command
) -> None:
    said = command(*(() if words[0].startswith("data=") else TINY), *words)
    assert message in said.sentence()
    assert said.code == 1


def test_a_missing_encoder_names_the_command_that_makes_it(command: Command) -> None:
    said = command(*TINY, "stage=head", "fold=1", "seed=2", "name=mine", "protocol=random")
    assert "; train it first: python train.py stage=dcae runs_dir=" in said.sentence()
    assert said.sentence().endswith(" fold=1 seed=2 name=mine protocol=random")


def test_a_wrong_encoder_is_one_sentence(command: Command, trained: Trained) -> None:
    said = command(*TINY, "stage=head", "fold=1", f"encoder={trained.dcae.best}")
    assert "belongs to another experiment" in said.sentence()
    assert "fold is 0, not 1" in said.sentence()
    assert "train the right one: python train.py stage=dcae" in said.sentence()
    assert said.code == 1


def test_a_run_of_another_configuration_is_one_sentence(command: Command) -> None:
    assert command(*TINY, "stage.epochs=1").code == 0
    said = command(*TINY, "stage.epochs=1", "stage.loss=l1")
    assert "stage.loss: mse there, l1 asked" in said.sentence()
    assert "overwrite=true" in said.sentence()
    assert said.code == 1


def test_a_finished_run_says_so_and_ends_well(command: Command) -> None:
    first = command(*TINY, "stage.epochs=1")
    assert "specimen/test/mse 0." in first.err and first.code == 0
    again = command(*TINY, "stage.epochs=1")
    assert "is finished already (overwrite=true trains it again)" in again.err and again.code == 0


def test_the_result_holds_the_command(command: Command, tmp_path: Path) -> None:
    command(*TINY, "stage.epochs=1", "seed=3")
    (file,) = tmp_path.rglob("result.json")
    said = json.loads(file.read_text())["command"]
    assert said.startswith("python train.py ")
    assert shlex.join(TINY) in said and said.endswith("seed=3")


def test_no_secret_leaves_the_process(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither W&B's key nor what is called a secret, in whatever is written or printed."""
    key = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_API_KEY", key)
    words = [*TINY_DATA, "experiment=chance", f"+note.text=x{key}", "+note.token=hidden_word"]
    said = command(*words)
    assert said.code == 0, said.err
    again = command(*words, "seed=0", "protocol.validation=0.3")
    assert again.code == 1 and "protocol.validation: 0 there, 0.3 asked" in again.err
    from hep2.evaluation.report import make_report

    report = make_report("default", tmp_path / "runs", tmp_path / "reports")
    texts = [said.out, said.err, again.out, again.err, report.remark]
    texts += [table.as_text() for table in report.tables]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10 and any(b"+note.token=***" in content for content in files)
    for secret in (key, "hidden_word"):
        assert not [text for text in texts if secret in text]
        assert not [content for content in files if secret.encode() in content]


def test_a_bug_keeps_its_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import hep2.run

    def broken(cfg: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hep2.run, "fit", broken)
    with pytest.raises(ZeroDivisionError):
        command(*TINY)


def test_an_interruption_in_training_says_how_to_go_on(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hep2.tasks.reconstruction import Reconstruction

    def pressed(self: Any, batch: Any, batch_index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reconstruction, "training_step", pressed)
    handler = signal.getsignal(signal.SIGINT)
    try:
        said = command(*TINY)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert said.code == 130
    assert "the same command goes on" in said.err and "Traceback" not in said.err


# --- what a message tells to do


ODD = "a (1), it's x=y"  # no word of Hydra's grammar, nor of a shell's


def pasted(command_line: str) -> DictConfig:
    """What a command line composes to that was pasted into a shell."""
    python, program, *words = shlex.split(command_line)
    assert (python, program) == ("python", "train.py")
    return composed(*words)


def same_run(one: DictConfig, other: DictConfig) -> bool:
    stored = OmegaConf.to_container(one, resolve=True)
    assert configuration_differences(stored, other) == []
    return run_path(one) == run_path(other) and one.cache_dir == other.cache_dir


def test_every_remedy_works_when_it_is_pasted(
    command: Command, tmp_path: Path, cache_dir: Path
) -> None:
    where = (f'runs_dir="{tmp_path}/{ODD}"', f"cache_dir={cache_dir}", "logger=csv")
    words = (*TINY, "stage.epochs=1", "protocol.folds=4", "data.source.seed=3", "fold=1", "seed=2",
             "name=n${fold}", "++trainer.min_epochs=1", f'+note.text="{ODD}"')  # fmt: skip
    others = [word for word in words if not word.lstrip("+").startswith("stage.")]
    encoder = composed(*where, *others, "stage=dcae")

    said = command(*where[:1], *words, "stage=head", "stage.class_weights=balanced").sentence()
    missing = said.partition("train it first: ")[2]
    assert same_run(pasted(missing), encoder)
    begun = composed(*where, *words, "stage=dcae", "stage.epochs=7", "stage.loss=l1", "seed=9")
    RunDir(run_path(begun)).claim(begun)
    (run_path(begun) / "last.ckpt").touch()
    swept = (*words, "+stage.loss=mse", "stage.inner_folds=3", "seed=9", "stage=head")
    said = command(*where[:1], *swept).sentence()
    assert same_run(pasted(said.partition("is not finished; train it first: ")[2]), begun)
    done = command(*shlex.split(missing)[2:], "stage.epochs=1")  # as it was pasted, only shorter
    assert done.code == 0, done.err
    (result,) = (tmp_path / ODD).rglob("result.json")
    repeat = json.loads(result.read_text())["command"]
    assert same_run(pasted(repeat), composed(*shlex.split(missing)[2:], "stage.epochs=1"))
    done = command(*shlex.split(repeat)[2:])
    assert "is finished already" in done.err, "the same run"

    other = f'encoder="{result.parent}/best.ckpt"'
    said = command(*where[:1], *words, "seed=5", "stage=head", other).sentence()
    right = said.partition("train the right one: ")[2]
    assert same_run(pasted(right), composed(*shlex.split(missing)[2:], "seed=5"))

    experiment = (*TINY[:2], "experiment=dense_ae_mlp", "head.widths=[9]", *where)
    said = command(*experiment).sentence()
    dense = pasted(said.partition("train it first: ")[2])
    assert (dense.stage.name, dense.model.name) == ("dense_ae", "dense_ae")
    assert same_run(dense, composed(*experiment, "stage=dense_ae"))


@pytest.mark.parametrize("character", [*"()='\"#&;[]{}~!<>, é"])
def test_an_unquoted_text_is_told_how_to_quote_it(character: str, command: Command) -> None:
    text = f"/cells/a{character}b"
    said = command("data=i3a", f"data.root={text}")
    if f"data.root={text}: no such folder" in said.err:  # Hydra reads it as it is
        assert character == " "
        return
    assert said.code == 2
    assert said.sentence().startswith(f"data.root={text} ")
    (remedy,) = shlex.split(said.sentence().rpartition(" write ")[2])
    assert composed("data=i3a", remedy).data.root == text


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("trainer.profiler=simple", "simple"),
        ("trainer.min_epochs=2", 2),
        ("callbacks.progress.refresh_rate=5", 5),
    ],
)
def test_a_setting_that_is_legal_is_added_as_told(word: str, meant: Any, command: Command) -> None:
    remedy = command(word).sentence().rpartition("add it by ")[2]
    assert OmegaConf.select(composed(*shlex.split(remedy)), word.partition("=")[0]) == meant


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.network.widths=64"], "must be a list: 'model.network.widths=[64]'"),
        (["stage=head", "head.widths=250"], "head.widths=250 must be a list: 'head.widths=[250]'"),
        (["logger=wandb", "logger.wandb.tags=mine"], "'logger.wandb.tags=[mine]'"),
        (["head=knn", "head.estimator.k=5"], ""),
    ],
)
def test_a_value_where_a_list_belongs_is_told(
    words: list[str], message: str, command: Command
) -> None:
    lists = [key for key in _lists(composed(*words[:1])) if key.startswith(("head.", "model."))]
    said = command(*TINY[:2], *(words if message else [words[0], f"{lists[-1]}=5"]))
    assert said.code == 1
    assert (message or f"{lists[-1]}=5 must be a list: '{lists[-1]}=[5]'") in said.sentence()


def _lists(cfg: DictConfig) -> list[str]:
    return [key for key in cli._keys(cfg) if OmegaConf.is_list(OmegaConf.select(cfg, key))]


# --- signals


@pytest.fixture
def sigterm() -> Iterator[None]:
    """What stands for a signal before a test stands there afterwards."""
    numbers = (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)
    kept = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def _signalled(place: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process signal itself at some moment of its run, once."""
    import hep2.run
    from hep2.stages.autoencoder import AutoencoderStage
    from hep2.tasks.reconstruction import Reconstruction

    owner, name, moment = {
        "data": (hep2.run, "open_fold", 1),
        "training": (Reconstruction, "training_step", 20),
        "validation": (Reconstruction, "validation_step", 6),
        "score": (AutoencoderStage, "score", 1),
    }[place]
    function, calls = getattr(owner, name), 0

    def with_signal(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), number)
        return function(*arguments)

    monkeypatch.setattr(owner, name, with_signal)


def _goes_on(command: Command, tmp_path: Path, trained: Trained) -> None:
    """The signal is not heard twice, and the same command ends as a run that nobody asked to."""
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, "asked twice is asked once"
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert command(*TINY).code == 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    (predictions,) = tmp_path.rglob("predictions.csv")
    assert predictions.read_bytes() == trained.dcae.predictions.read_bytes()


@pytest.mark.parametrize("place", ["data", "training", "validation", "score"])
def test_sigterm_ends_a_run_at_any_moment_and_nothing_is_lost(
    place: str,
    command: Command,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sigterm: None,
) -> None:
    with monkeypatch.context() as patch:
        _signalled(place, signal.SIGTERM, patch)
        said = command(*TINY)
    assert said.code == 143
    last = said.err.strip().splitlines()[-1]
    wanted = "error: asked to end (SIGTERM); the same command goes on from the last checkpoint"
    assert last == wanted and "Traceback" not in said.err
    assert [one.state for one in run_states(tmp_path / "runs/default")] == ["interrupted"]
    assert not list(tmp_path.rglob("failed.txt")) and not list(tmp_path.rglob("result.json"))
    _goes_on(command, tmp_path, trained)


def test_what_breaks_while_a_run_is_asked_to_end_is_no_failure(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sigterm: None
) -> None:
    from hep2.tasks.reconstruction import Reconstruction

    def step(self: Any, batch: Any, batch_index: int) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError("connection closed by peer")

    monkeypatch.setattr(Reconstruction, "training_step", step)
    assert command(*TINY).code == 143
    assert not list(tmp_path.rglob("failed.txt"))


@pytest.mark.parametrize("place", ["data", "training"])
@pytest.mark.parametrize("process", ["only", "array", "second", "of a sweep"])
def test_a_job_that_slurm_preempts_is_requeued_and_goes_on(
    place: str,
    process: str,
    command: Command,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sigterm: None,
) -> None:
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    slurm = {"NTASKS": 1, "JOB_ID": 77, "JOB_NAME": "train", "LOCALID": 0, "NODEID": 0,
             "PROCID": int(process == "second")}  # fmt: skip
    if process == "array":
        slurm |= {"ARRAY_JOB_ID": 70, "ARRAY_TASK_ID": 7}
    if process == "of a sweep":
        monkeypatch.setenv("HEP2_IN_SWEEP", "1")
    with monkeypatch.context() as patch:
        for name, value in slurm.items():
            patch.setenv(f"SLURM_{name}", str(value))
        patch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
        _signalled(place, signal.SIGUSR1, patch)
        if process == "second":  # only the signal is looked at: the first holds the directory
            patch.setattr("hep2.run.rank_zero_only.rank", 0, raising=False)
        assert command(*TINY).code == 143
    asked = tmp_path / "asked"
    requeued = {"only": "requeue 77\n", "array": "requeue 70_7\n"}.get(process, "")
    assert (asked.read_text() if asked.exists() else "") == requeued
    assert not list(tmp_path.rglob("failed.txt")) and not list(tmp_path.rglob("hpc_ckpt*"))
    _goes_on(command, tmp_path, trained)


def test_a_handler_of_somebody_else_stays(sigterm: None) -> None:
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with cli.clear_errors():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_help_shows_commands_choices_and_settings(command: Command) -> None:
    said = command("--help")
    assert said.code in (0, None) and said.err == ""
    for text in ("python train.py stage=dcae", "python train.py -m", "data.root=", "evaluate.py"):
        assert text in said.out
    for group in ("stage", "data", "protocol", "model", "experiment"):
        assert f"{group}: {options(group)}\n" in said.out
    assert "\nfold: 0" in said.out


def test_a_real_command_line_is_refused_quickly_and_plainly(tmp_path: Path) -> None:
    """In a process of its own, where nothing has been imported or set before."""
    code = (
        "import sys, runpy; sys.argv = ['train.py', 'flod=1']\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "finally: print([m for m in ('torch', 'lightning', 'wandb', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "error: there is no setting flod; did you mean fold?\n"
    assert done.stdout == "[]\n"  # the heavy imports wait until the command line is right


def test_a_sentence_is_said_once(command: Command) -> None:
    """Hydra quotes what a constructor says, and the constructor's own error hangs below it."""
    said = command(*TINY, "trainer.accelerator=typewriter").sentence()
    assert said.count("You selected an invalid accelerator name") == 1
    assert "Error in call to target" not in said


def test_an_override_with_a_line_break_is_one_sentence(command: Command) -> None:
    said = command("\nstage=head").sentence()
    assert "'\\nstage=head' cannot be read: take its invisible letters out" in said
