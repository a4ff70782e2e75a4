"""The command `hep2`, in this process, and what its wheel brings along."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import CONF, ROOT, TINY, InProcess, composed

from hep2 import __version__, config
from hep2.programs import console
from hep2.programs.completion import SCRIPTS
from hep2.rundir.result import read_result

Command = Callable[..., tuple[object, str, str]]


@pytest.fixture
def hep2(in_process: InProcess) -> Command:
    """`hep2 ...` in this process, in this test's own folder: exit code, output, errors."""
    return partial(in_process, console.main, "/somewhere/bin/hep2")


def test_help_and_version_import_nothing_heavy() -> None:
    code = "import sys; from hep2.programs.console import main\n"
    for word in ("--help", "--version"):
        code += f"sys.argv = ['hep2', '{word}']; main()\n"
    heavy = ("torch", "lightning", "pandas", "hydra", "omegaconf", "numpy", "wandb")
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    *help, version, imported = done.stdout.splitlines()
    assert (version, imported) == (f"hep2 {__version__}", "[]"), done.stderr
    assert all(any(line.split()[:1] == [name] for line in help) for name in console.COMMANDS)


def test_nobody_reads_on() -> None:
    code = "from hep2.programs.console import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--help"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 1)


@pytest.mark.parametrize("name", console.COMMANDS)
def test_every_command_is_there(name: str) -> None:
    assert callable(importlib.import_module(console.COMMANDS[name].module).main)


@pytest.mark.parametrize("name", ["rows", "search", "schema", "completion"])  # not Hydra's
def test_a_command_that_is_asked_for_help_says_how_it_is_used(hep2: Command, name: str) -> None:
    code, out, err = hep2(name, "--help")
    assert (code, err) == (0, "") and name in out.splitlines()[0]


def test_a_misspelt_command_is_one_sentence(hep2: Command) -> None:
    assert hep2("trian") == (2, "", "error: hep2 trian is unknown: did you mean train?\n")


def test_train_and_report_are_the_same_programs(
    hep2: Command, tmp_path: Path, cache_dir: Path
) -> None:
    """With an experiment of the user's own, of which hep2 knows nothing."""
    own = tmp_path / "conf" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\nname: own\nseed: 3\n")
    words = (*TINY, f"cache_dir={cache_dir}", "stage.epochs=1", "experiment=mine")
    code, _, err = hep2("train", *words)
    assert code == 0, err
    (file,) = tmp_path.rglob("result.json")
    assert file.parent == Path(tmp_path, "runs/own/synthetic-specimen/dcae-dcae/fold0/seed3")
    assert read_result(file)["command"].startswith("hep2 train ")
    code, _, err = hep2("train", "experiment=mien")
    assert code == 2 and err.count("\n") == 1
    assert "lenet, mine, pca_mlp" in err and f"({tmp_path}/conf is searched before" in err
    code, out, err = hep2("report", "name=own")
    assert (
        code == 1 and out == "runs/own: finished 1\n" and "but of no stage that classifies" in err
    )


def test_a_users_own_folder_is_first_and_hep2s_own_is_not_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "head").mkdir(parents=True)
    shutil.copy(CONF / "head" / "mlp.yaml", tmp_path / "conf" / "head")
    with (tmp_path / "conf" / "head" / "mlp.yaml").open("a") as file:
        file.write("dropout_of_mine: 1\n")
    monkeypatch.chdir(tmp_path)
    assert composed().head.dropout_of_mine == 1
    monkeypatch.chdir(ROOT)
    assert config.own_conf() is None and "dropout_of_mine" not in composed().head


def test_the_shell_asks_what_may_follow(hep2: Command) -> None:
    def words(line: str) -> list[str]:
        code, out, err = hep2("completion", "query", line)
        assert code == 0, err
        return out.split()

    assert words("hep2 s") == ["sweep", "search", "schema"]
    assert words("hep2 train stage=dcae_p") == [
        *("stage=dcae_plus", "stage=dcae_plus_cells", "stage=dcae_plus_own"),
        *("stage=dcae_plus_quick", "stage=dcae_plus_vicreg"),
    ]
    assert words("hep2 train stage=head head.wi") == ["head.widths."]
    assert words("hep2 audit columns.sp") == ["columns.specimen=", "columns.split="]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_of_a_shell(hep2: Command, shell: str) -> None:
    assert hep2("completion", shell) == (0, f"{SCRIPTS[shell]}\n", "")
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", "-c", SCRIPTS[shell]], timeout=60).returncode == 0


def test_another_shell_is_one_sentence(hep2: Command) -> None:
    code, out, _ = hep2("completion", "tcsh")
    assert out == "" and code == (
        "error: hep2 completion SHELL prints a script for bash, zsh, fish"
    )


def test_the_wheel_holds_the_whole_package_and_its_settings(tmp_path: Path) -> None:
    """What is not in the wheel nobody misses in a checkout."""
    for name in ("hep2", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wheel = tmp_path / done.stdout.splitlines()[-1]
    assert wheel.name == f"hep2-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name: archive.read(name) for name in archive.namelist() if "dist-info" not in name
        }
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert b"hep2 = hep2.programs.console:main" in archive.read(entry)
    expected = {
        f"{within}{file.relative_to(ROOT / folder).as_posix()}": file.read_bytes()
        for folder, within in (("hep2", "hep2/"), ("conf", "hep2/conf/"))
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed.keys() == expected.keys() and packed == expected
