"""Where a run lives, what it is called, and what may be written there. Nothing is trained."""

import errno
import os
import re
import shlex
import stat
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import CONF, composed
from omegaconf import DictConfig, OmegaConf, open_dict

from hep2 import files
from hep2.errors import HEp2Error
from hep2.files import holder, locked, write_atomic
from hep2.rundir.directory import RunDir, configuration_differences, damaged
from hep2.rundir.layout import encoder_paths, encoder_runs, run_path, train_command

once = cache(composed)


def configured(folder: Path, *overrides: str) -> DictConfig:
    cfg = deepcopy(once(*overrides))
    cfg.runs_dir = str(folder)
    return cfg


# --- names


@pytest.mark.parametrize(
    ("overrides", "method", "leaf", "encoders"),
    [
        (["stage=dcae"], "dcae", "dcae-dcae", {}),
        (["stage=dcae", "model=dcae_small"], "dcae_small", "dcae-dcae_small", {}),
        (["stage=head"], "dcae-mlp", "head-dcae-mlp", {"dcae": "dcae"}),
        (
            ["stage=head", "features=handcrafted", "head=svm"],
            "handcrafted-svm",
            "head-handcrafted-svm",
            {},
        ),
        (["stage=cnn", "model=lenet", "head=linear"], "cnn-lenet-linear", "cnn-lenet-linear", {}),
        (["stage=clustering"], "clustering-dcae", "clustering-dcae", {"dcae": "dcae"}),
    ],
)
def test_a_run_is_called_by_its_method(
    overrides: list[str], method: str, leaf: str, encoders: dict[str, str], tmp_path: Path
) -> None:
    cfg = configured(tmp_path, "name=trial", "protocol=loso", "fold=3", "seed=7", *overrides)
    assert cfg.stage.label == method
    assert run_path(cfg) == tmp_path / "trial" / "synthetic-loso" / leaf / "fold3" / "seed7"
    assert cfg.stage.encoders == encoders


@pytest.mark.parametrize("name", ["a" * 201, "2026-11_b.c+d=e,f", "ä"])
def test_a_name_that_names_a_folder(name: str, tmp_path: Path) -> None:
    cfg = configured(tmp_path)
    cfg.name = name
    assert run_path(cfg).parts[-5] == f"default{name}"[7:]


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("name", "name"),
        ("data.name", "data.name and protocol.name"),
        ("model.name", "the names of stage, model and head"),
    ],
)
@pytest.mark.parametrize("text", ["a/b", "a" * 300, "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(
    key: str, what: str, text: str, tmp_path: Path
) -> None:
    cfg = configured(tmp_path, "stage=dcae")
    OmegaConf.update(cfg, key, text)
    with pytest.raises(HEp2Error) as caught:
        run_path(cfg)
    assert str(caught.value).startswith(f"{what}: ")
    assert str(caught.value).endswith(
        " cannot name a folder; use letters, digits and _ - . + = , and begin with a letter or a "
        "digit"
    )


@pytest.mark.parametrize("lacking", [["kind"], ["label", "encoders"], ["unread"]])
def test_a_stage_that_does_not_tell_all_is_refused(lacking: list[str], tmp_path: Path) -> None:
    cfg = configured(tmp_path, "stage=cnn")
    with open_dict(cfg):
        for key in lacking:
            del cfg.stage[key]
    with pytest.raises(HEp2Error) as caught:
        run_path(cfg)
    assert str(caught.value) == (
        f"stage=cnn lacks {', '.join(lacking)}: add to its file what conf/stage/dcae.yaml explains"
    )


# --- encoders


def finished(run: RunDir) -> RunDir:
    run.write_result({})
    return run


def test_a_head_starts_from_the_encoder_of_its_fold(tmp_path: Path) -> None:
    cfg = configured(tmp_path, "stage=head", "fold=2", "seed=5")
    encoder = RunDir(run_path(configured(tmp_path, "stage=dcae", "fold=2", "seed=5")))
    assert encoder_runs(cfg) == [encoder]
    remedy = f"train it first: {train_command(cfg, 'dcae', 'dcae')}"
    with pytest.raises(HEp2Error) as caught:
        encoder_paths(cfg, selected=True)
    assert str(caught.value) == (
        f"stage=head needs the encoder of fold 2, but {encoder.path} does not exist; {remedy}"
    )
    encoder.claim(configured(tmp_path, "stage=dcae", "fold=2", "seed=5"))
    with pytest.raises(HEp2Error, match=re.escape(f"but {encoder.path} is not finished; {remedy}")):
        encoder_paths(cfg, selected=True)
    finished(encoder)
    assert encoder_paths(cfg, selected=True) == [encoder.best]
    assert encoder_paths(cfg, selected=False) == [encoder.last]


def test_an_encoder_that_is_given_is_taken_by_its_path(tmp_path: Path) -> None:
    cfg = configured(tmp_path, "stage=head", "encoder=other/best.ckpt")
    assert encoder_runs(cfg) == []
    assert encoder_paths(cfg, selected=False) == [Path("other/best.ckpt")]
    alone = ("stage=head", "features=handcrafted", "head=svm", "encoder=other/best.ckpt")
    assert encoder_paths(configured(tmp_path, *alone), selected=True) == []
    cfg.features.encoders = {"dcae": "dcae", "second": "dcae"}
    with pytest.raises(
        HEp2Error, match=r"^encoder=other/best\.ckpt is one checkpoint, needed are 2"
    ):
        encoder_paths(cfg, selected=True)


def test_the_command_that_trains_an_encoder(tmp_path: Path) -> None:
    """Read off a configuration that no command line has made; others are in tests/test_cli.py."""
    given = ("data=i3a", 'data.root="/a (1)/it\'s=x"', "protocol.folds=3", "model=dcae_small",
             "model.network.widths=[8,8]", "fold=2", "seed=5", "name=x")  # fmt: skip
    head, encoder = (configured(tmp_path, *given, stage) for stage in ("stage=head", "stage=dcae"))
    python, program, *words = shlex.split(train_command(head, "dcae", "dcae_small"))
    assert (python, program) == ("python", "train.py")
    pasted = composed(*words)
    assert run_path(pasted) == run_path(encoder)
    assert configuration_differences(OmegaConf.to_container(encoder, resolve=True), pasted) == []
    other = composed(*shlex.split(train_command(head, "dense_ae", "dense_ae"))[2:])
    assert (other.model.name, other.model.network.widths) == ("dense_ae", [1000, 250])


# --- the directory


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A directory with every file of a run."""
    run = RunDir(tmp_path / "run")
    run.claim(configured(tmp_path))
    for file in (run.last, run.previous, run.best, run.predictions, run.log):
        file.write_text("kept")
    return finished(run)


def test_the_files_of_a_run(run: RunDir) -> None:
    assert {file.name for file in run.path.iterdir()} == {
        "best.ckpt", "config.yaml", "last.ckpt", "log.txt", "predictions.csv", "previous.ckpt",
        "result.json",
    }  # fmt: skip
    assert run.lock == run.path / ".lock"
    assert run.finished
    run.write_result({"a": [1.5, None], "é": "ß"})
    assert run.result.read_text() == (
        '{\n  "a": [\n    1.5,\n    null\n  ],\n  "\\u00e9": "\\u00df"\n}\n'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_result({"a": float("nan")})


@pytest.mark.parametrize("left", ["result", "last", "both"])
def test_a_run_of_another_configuration_is_kept(left: str, run: RunDir, tmp_path: Path) -> None:
    for file in {"result": [run.last], "last": [run.result], "both": []}[left]:
        file.unlink()
    before = run.config.read_text()
    with pytest.raises(HEp2Error) as caught:
        run.claim(configured(tmp_path, "stage.loss=l1", "protocol.seed=4"))
    assert str(caught.value) == (
        f"{run.path} holds a run of another configuration (protocol.seed: 0 there, 4 asked; "
        "stage.loss: mse there, l1 asked): choose another name=..., or overwrite=true"
    )
    run.claim(configured(tmp_path, "data.workers=7"))
    assert run.config.read_text() == before
    assert run.best.read_text() == "kept"


def test_a_run_without_a_checkpoint_takes_another_configuration(
    run: RunDir, tmp_path: Path
) -> None:
    for file in (run.last, run.result):
        file.unlink()
    run.claim(configured(tmp_path, "stage.epochs=3"))
    assert OmegaConf.load(run.config).stage.epochs == 3
    assert run.best.exists()


def test_a_checkpoint_without_a_configuration_is_nobodys(run: RunDir, tmp_path: Path) -> None:
    run.config.unlink()
    run.claim(configured(tmp_path, "stage.epochs=3"))
    assert OmegaConf.load(run.config).stage.epochs == 3


def test_overwriting_leaves_nothing_of_the_run(run: RunDir, tmp_path: Path) -> None:
    run.claim(configured(tmp_path, "stage.epochs=3", "overwrite=true"))
    assert {file.name for file in run.path.iterdir()} == {"config.yaml", "log.txt"}
    assert OmegaConf.load(run.config).stage.epochs == 3
    run.claim(configured(tmp_path, "overwrite=true"))  # nothing there to remove


def test_the_stored_configuration_is_plain_resolved_and_without_secrets(tmp_path: Path) -> None:
    run, cfg = RunDir(tmp_path / "run"), configured(tmp_path, "+trainer.api_key=hidden")
    run.claim(cfg)
    text = run.config.read_text()
    assert "${" not in text and "hidden" not in text
    stored, asked = (
        OmegaConf.to_container(c, resolve=True) for c in (OmegaConf.load(run.config), cfg)
    )
    del stored["trainer"]["api_key"], asked["trainer"]["api_key"]
    assert stored == asked


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: &x 1\nb: *x\n", "ValueError"), ("a: [", "ParserError"), ("\udcff", "UnicodeDecodeError")],
)
def test_a_configuration_that_cannot_be_read(
    text: str, reason: str, run: RunDir, tmp_path: Path
) -> None:
    run.config.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(HEp2Error) as caught:
        run.check(configured(tmp_path))
    assert str(caught.value) == (
        f"{run.config} cannot be read ({reason}): delete {run.path}, or run again with "
        "overwrite=true"
    )
    if reason == "ValueError":
        assert str(caught.value.__cause__) == "references, which may unfold to any size"


def test_a_stored_configuration_reads_no_environment(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it could otherwise ask for anything, and have it printed."""
    monkeypatch.setenv("HEP2_SECRET", "hidden")
    stored = OmegaConf.load(run.config)
    stored.name = "${oc.env:HEP2_SECRET}"
    OmegaConf.save(stored, run.config)
    with pytest.raises(
        HEp2Error, match=r"\(name: \$\{oc\.env:HEP2_SECRET\} there, default asked\)"
    ):
        run.check(configured(tmp_path))


def test_a_configuration_is_read_in_any_locale(tmp_path: Path) -> None:
    run, cfg = RunDir(tmp_path / "run"), configured(tmp_path)
    cfg.name = "ä"
    run.claim(cfg)
    run.last.touch()
    program = (
        "import sys; from omegaconf import OmegaConf; from hep2.rundir.directory import *; "
        "run = RunDir(Path(sys.argv[1])); "
        "run.check(OmegaConf.create(run.config.read_bytes().decode()))"
    )
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = os.environ | plain | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    told = subprocess.run(
        [sys.executable, "-c", program, run.path], env=environment, capture_output=True
    )
    assert (told.returncode, told.stderr.decode()) == (0, "")


@pytest.mark.parametrize("anew", [True, False])
def test_what_was_half_written_is_removed(anew: bool, run: RunDir, tmp_path: Path) -> None:
    half = [".last.ckpt.x7f", ".result.json.1", ".predictions.csv.abc", ".config.yaml._"]
    half.append("pictures/.reconstructions-step000030-0.png.8du")
    other = [".lock", ".note.txt.abc", "last.ckpt.abc", "pictures/0.png"]
    (run.path / "pictures").mkdir(parents=True)
    for name in half + other:
        (run.path / name).touch()
    run.claim(configured(tmp_path, f"overwrite={anew}"))
    left = {file.relative_to(run.path).as_posix() for file in run.path.rglob("*")}
    assert left >= set(other)
    assert not left & set(half)


# --- differences


def test_only_what_changes_the_numbers_is_a_difference(tmp_path: Path) -> None:
    asked = configured(tmp_path, "stage=dcae")
    stored = OmegaConf.to_container(asked, resolve=True)
    assert configuration_differences(stored, asked) == []
    stored["data"] |= {"workers": 9, "root": "elsewhere"}
    stored["trainer"] |= {"accelerator": "tpu", "devices": {"a": 1}, "num_nodes": 3}
    stored |= {"runs_dir": "x", "cache_dir": "x", "logger": {"a": {"b": 1}}, "overwrite": True}
    stored |= {"head": {"name": "x"}, "encoder": "x"}  # which stage 1 does not read
    assert configuration_differences(stored, asked) == []
    stored |= {"heads": 1, "more": {"deep": {}}}
    del stored["seed"]
    assert configuration_differences(stored, asked) == [
        "heads: 1 there, absent asked",
        "more.deep: {} there, absent asked",
        "seed: absent there, 0 asked",
    ]


@pytest.mark.parametrize(
    "shown",
    [
        "lightning.pytorch.callbacks.RichProgressBar",
        "lightning.pytorch.callbacks.TQDMProgressBar",
        "lightning.pytorch.callbacks.progress.ProgressBar",
        "mine.OwnProgressBar",
        "lightning.pytorch.callbacks.RichModelSummary",
        "lightning.pytorch.callbacks.ModelSummary",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "lightning.pytorch.callbacks.DeviceStatsMonitor",
        "hep2.stages.callbacks.ReconstructionPictures",
        "hep2.stages.callbacks.LinearProbe",
    ],
)
def test_what_only_shows_is_no_part_of_a_run(shown: str, tmp_path: Path) -> None:
    """Whatever it is called, there or not, the first or the last of the callbacks."""
    act = "+callbacks.act={_target_:mine.Weights,decay:0.9}"
    with_it = configured(tmp_path, act, f"+callbacks.more={{_target_:{shown},every:3}}")
    without = configured(tmp_path, act, "~callbacks.progress", "~callbacks.pictures")
    for one, other in ((with_it, without), (without, with_it)):
        stored = OmegaConf.to_container(one, resolve=True)
        assert configuration_differences(stored, other) == []
    bare = configured(tmp_path)
    bare.callbacks = {}
    stored = OmegaConf.to_container(bare, resolve=True)
    assert configuration_differences(stored, configured(tmp_path)) == []
    assert configuration_differences(stored, with_it) == [
        "callbacks.act._target_: absent there, mine.Weights asked",
        "callbacks.act.decay: absent there, 0.9 asked",
    ]


def test_a_run_from_before_a_setting_is_one_with_its_first_value(tmp_path: Path) -> None:
    asked = configured(tmp_path, "stage=head")
    stored = OmegaConf.to_container(asked, resolve=True)
    del stored["protocol"]["labelled"]
    assert configuration_differences(stored, asked) == []
    asked = configured(tmp_path, "stage=head", "protocol.labelled=2")
    assert configuration_differences(stored, asked) == ["protocol.labelled: None there, 2 asked"]


def test_a_run_of_an_older_recipe_is_another_run(tmp_path: Path) -> None:
    asked = configured(tmp_path, "stage=head")
    stored = OmegaConf.to_container(asked, resolve=True)
    del stored["recipe"]
    assert configuration_differences(stored, asked) == [f"recipe: 1 there, {asked.recipe} asked"]


def test_what_reads_no_label_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    stored = OmegaConf.to_container(configured(tmp_path, "stage=dcae"), resolve=True)
    few = ("stage=dcae", "protocol.labelled=2", "protocol.validation=0.2")
    assert configuration_differences(stored, configured(tmp_path, *few)) == []
    own = configured(tmp_path, *few, "stage.learn_from=training")
    assert "protocol.labelled: None there, 2 asked" in configuration_differences(stored, own)


def test_nothing_and_null_are_not_the_same(tmp_path: Path) -> None:
    null, nothing = configured(tmp_path, "+trainer.min_epochs=null"), configured(tmp_path)
    for stored, asked, difference in (
        (null, nothing, "trainer.min_epochs: None there, absent asked"),
        (nothing, null, "trainer.min_epochs: absent there, None asked"),
    ):
        plain = OmegaConf.to_container(stored, resolve=True)
        assert configuration_differences(plain, asked) == [difference]


@pytest.mark.parametrize(
    ("features", "named"), [("dcae", ["model.name: x there, dcae asked"]), ("handcrafted", [])]
)
def test_a_head_reads_the_model_of_its_encoder_alone(
    features: str, named: list[str], tmp_path: Path
) -> None:
    asked = configured(tmp_path, "stage=head", f"features={features}")
    stored = OmegaConf.to_container(asked, resolve=True)
    stored["model"]["name"] = "x"
    stored["augment"] = {"turned": 1}
    assert configuration_differences(stored, asked) == named


def before_the_keys(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as it was stored when stages did not tell what they are."""
    stored: Any = OmegaConf.to_container(cfg, resolve=True)
    stage = stored["stage"]
    encoders = [stage.pop(key) for key in ("kind", "label", "unread", "encoders")][-1]
    if stage["task"] in ("supervised", "clustering"):
        stage["initial"] = next(iter(encoders), None)
    stored["callbacks"]["probe"]["_target_"] = "hep2.probe.LinearProbe"
    return dict(stored)


@pytest.mark.parametrize("stage", sorted(file.stem for file in (CONF / "stage").glob("*.yaml")))
def test_a_run_stored_before_stages_told_what_they_are_is_the_same(
    stage: str, tmp_path: Path
) -> None:
    asked = configured(tmp_path, f"stage={stage}")
    assert configuration_differences(before_the_keys(asked), asked) == []


def test_another_start_is_a_difference(tmp_path: Path) -> None:
    scratch = configured(tmp_path, "stage=cnn")
    tuned = configured(tmp_path, "stage=cnn", "+stage.encoders.dcae=dcae")
    assert run_path(scratch) == run_path(tuned)
    for stored in (OmegaConf.to_container(tuned, resolve=True), before_the_keys(tuned)):
        assert configuration_differences(stored, scratch) == [
            "stage.encoders: absent there, {} asked",
            "stage.encoders.dcae: dcae there, absent asked",
        ]


# --- files


def test_a_file_is_there_whole_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "deep" / "er" / "file.txt"
    write_atomic(file, "é")
    assert file.read_bytes() == "é".encode()
    write_atomic(file, memoryview(b"two"))
    assert file.read_bytes() == b"two"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HEp2Error) as caught:
        write_atomic(file, b"three")
    assert str(caught.value) == (
        f"cannot write {file}: No space left on device; free some space or choose another folder"
    )
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == b"two"
    (tmp_path / "file").touch()
    with pytest.raises(HEp2Error, match=r"^cannot write .*/file/below: "):
        write_atomic(tmp_path / "file" / "below", b"")

    def removed(*_: object) -> None:
        next(file.parent.glob(".file.txt.*")).unlink()

    monkeypatch.setattr(os, "fsync", removed)  # somebody cleans up while the file is written
    with pytest.raises(HEp2Error, match=r"^cannot write .*/file\.txt: No such file"):
        write_atomic(file, b"four")
    assert file.read_bytes() == b"two"


def test_a_file_is_synced_before_it_has_its_name_and_its_folder_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen, sync = tmp_path / "file.txt", [], os.fsync

    def spy(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        temporary = [other.name for other in tmp_path.iterdir() if other != file]
        assert all(name.startswith(".file.txt.") for name in temporary)
        seen.append(
            (kind, file.exists(), len(temporary), os.fstat(handle).st_size if kind == "file" else 3)
        )
        sync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    write_atomic(file, b"all")
    assert seen == [("file", False, 1, 3), ("folder", True, 0, 3)]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_have_the_rights_of_any_other_file(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "file", b"")
        assert files._umask() == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_a_folder_that_cannot_be_synced_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def only_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        sync(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    opened = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else set()
    write_atomic(tmp_path / "file", b"all")
    assert (tmp_path / "file").read_bytes() == b"all"
    if opened:
        assert len(os.listdir("/proc/self/fd")) == len(opened)


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (("stage=head", "head=svm"), False),
        (("stage=clustering",), False),
        (("stage=head",), True),
        (("stage=dcae",), False),
        (("stage=dcae", "stage.tuned=true"), True),
        (("stage=cnn",), True),
    ],
)
def test_what_is_not_tuned_does_not_read_the_grid(words: tuple[str, ...], read: bool) -> None:
    def differences(cfg: DictConfig) -> list[str]:
        stored = OmegaConf.to_container(composed(*words), resolve=True)
        return configuration_differences(stored, cfg)

    assert (
        bool(differences(composed(*words, "tuning.grid={stage.optimizer.lr:[1e-3,3e-3]}"))) is read
    )


def test_a_lock_that_cannot_name_its_holder_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "run" / ".lock"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        refused = pytest.raises(HEp2Error, match=f"cannot write {file}: No space left on device")
        with refused, locked(file, wait=False):
            pytest.fail("it is not whole")
    assert holder(file) is None
    with locked(file, wait=False):
        assert holder(file) == f"process {os.getpid()} on {os.uname().nodename}"


def test_where_the_file_system_has_no_locks_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.FileLock, "acquire", without)
    with locked(tmp_path / ".lock", wait=False):
        pass
    assert f"{tmp_path}/.lock: no lock (No locks available)" in caplog.text


def test_a_forked_worker_that_ends_well_leaves_the_lock_to_its_holder(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with locked(file, wait=False):
        if (worker := os.fork()) == 0:
            os._exit(0)
        assert os.waitpid(worker, 0)[1] == 0
        assert holder(file) == f"process {os.getpid()} on {os.uname().nodename}"
    assert holder(file) is None


def test_what_is_damaged_is_told_at_a_readable_length(tmp_path: Path) -> None:
    said = str(damaged(tmp_path / "result.json", "x" * 100_000))
    assert len(said) < 1000 and " ...; delete " in said
