import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import CONF, TINY, TINY_DATA, Trained
from hydra.core.hydra_config import HydraConfig

import train
from hep2 import cli

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
        (["protocol.validation=1"], "protocol.validation=1 must be at least 0 and below 1"),
        (["stage.loss=l2"], "stage.loss=l2 is unknown: choose one of mse, l1, ssim"),
        (["stage.optimizer.schedule=step"], "stage.optimizer.schedule=step is unknown: choose one"),
        (["model.architecture=vae"], "network 'vae' is unknown: choose one of dcae"),
        (["+model.network.depth=3"], "depth"),
        (["+trainer.max_epoch=3"], "max_epoch"),
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
    wanted = "python train.py stage=dcae model=dcae data=synthetic protocol=random"
    assert f"train it first: {wanted} fold=1 seed=2 name=mine" in said.sentence()


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
    import json

    command(*TINY, "stage.epochs=1", "seed=3")
    (file,) = tmp_path.rglob("result.json")
    said = json.loads(file.read_text())["command"]
    assert said.startswith("python train.py ")
    assert " ".join(TINY) in said and said.endswith("seed=3")


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
    assert again.code == 1 and "protocol.validation: 0.2 there, 0.3 asked" in again.err
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
