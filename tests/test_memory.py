"""The benchmark that adds up the memory of a command and all processes below it."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import held_by, peak_of, tree

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux alone")
BLOCK = "block = bytes(60_000_000).replace(b'\\0', b'1'); import sys; "


def test_children_of_children_are_counted_and_what_they_share_once() -> None:
    # 60 MB of the parent, shared with a fork that has 60 MB of its own, which outlive their use.
    program = BLOCK + (
        "import os, time; pid = os.fork(); own = None if pid else block.replace(b'1', b'2'); "
        "time.sleep(1.5); pid and os.waitpid(pid, 0)"
    )
    code, peak = peak_of([sys.executable, "-S", "-c", program])
    assert code == 0 and 115 < peak["own"] <= peak["all"] < 160


def test_a_tree_has_what_is_below_and_nothing_else() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert list(tree(child.pid)) == [child.pid]
        assert child.pid in tree(child.pid) and held_by(tree(child.pid))["all"] > 1
        child.communicate(b"\n")
    assert held_by(iter([child.pid])) == {"all": 0.0, "own": 0.0}
