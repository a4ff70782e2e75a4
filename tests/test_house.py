"""The house keeps its shape: what may import what, and what stays light."""

import os
import subprocess
import sys
from functools import cache

import pytest
from conftest import ROOT

from benchmarks.house import imports, longest_chain, modules

# From the ground up. A file imports from lower floors, and from its own package; never upwards, and
# never from a neighbour on its floor.
FLOORS = (
    ("errors", "processor", "metrics"),
    ("config", "trainer"),
    ("signals", "calls"),
    ("files", "nets", "cli"),
    ("data",),
    ("rundir", "tasks", "heads"),
    ("trackers", "sweep", "evaluation", "features"),
    ("stages", "prediction", "search", "rows"),
    ("run",),
    ("api", "sklearn"),
    ("programs",),
)
FLOOR = {f"hep2.{name}": floor for floor, names in enumerate(FLOORS) for name in names}
# Imported before a command line is known to be right: heavy libraries wait until it is.
LIGHT = ("hep2.rundir.layout", "hep2.rundir.directory", "hep2.rundir.metrics_csv",
         "hep2.rundir.state", *(name for name in modules(ROOT) if name.startswith("hep2.sweep.")
                                and name != "hep2.sweep.forkserver_preload"))  # fmt: skip
HEAVY = ("torch", "lightning", "pandas", "wandb", "sklearn", "matplotlib")


graph = cache(lambda: imports(ROOT))


def part(module: str) -> str:
    """hep2.data.store -> hep2.data, hep2.run -> hep2.run"""
    return ".".join(module.split(".")[:2])


def test_every_part_has_a_floor() -> None:
    assert {part(module) for module in modules(ROOT)} == FLOOR.keys()


@pytest.mark.parametrize("module", modules(ROOT))
def test_nothing_imports_upwards(module: str) -> None:
    mine = part(module)
    wrong = {
        other
        for other in graph()[module]
        if part(other) != mine and FLOOR[part(other)] >= FLOOR[mine]
    }
    assert not wrong


def test_no_circle_and_no_long_corridor() -> None:
    assert len(longest_chain(graph())) <= 12


def test_the_root_is_the_main_road() -> None:
    assert len([name for name in modules(ROOT) if name.count(".") == 1]) <= 13


@pytest.mark.parametrize(
    "code",
    ["sys.argv = ['train.py', '--help']; runpy.run_path('train.py', run_name='__main__')",
     f"import {', '.join(LIGHT)}"],
    ids=["--help", "modules"],
)  # fmt: skip
def test_what_is_read_first_is_light(code: str) -> None:
    code = f"import runpy, sys\ntry: {code}\nexcept SystemExit: pass\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_no_import_asks_the_network() -> None:
    """albumentations asks for its latest version, unless it was told not to before."""
    hook = (
        "lambda event, details: event.startswith(('socket.', 'urllib.')) and print(event, details)"
    )
    code = f"import sys; sys.addaudithook({hook})\nimport hep2.run, hep2.api"
    asking = {name: value for name, value in os.environ.items() if "ALBUMENTATIONS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=asking, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_files_stay_small() -> None:
    long = {name: lines for name, file in modules(ROOT).items()
            if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 300}  # fmt: skip
    assert not long
