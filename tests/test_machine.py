"""What results.json says of the machine, and when figures are not to be trusted."""

import subprocess
import sys
import time

import pytest

from benchmarks.machine import Watch, own_seconds, warning


def test_a_machine_is_named_with_what_was_at_work_on_it() -> None:
    told = Watch().told()
    assert {"processor", "cores", "instructions", "load_before", "load_after", "torch"} <= set(told)
    assert told["cores"] >= 1 and told["torch"][0].isdigit()


@pytest.mark.parametrize(
    ("others", "load", "said"),
    [
        (0.02, 3.0, None),  # its load is our own
        (0.5, 0.0, "others kept 0.50 cores busy"),
        (None, 0.05, None),
        (None, 1.5, "its load was 1.5 at the start"),
    ],
)
def test_others_at_work_are_said(others: float | None, load: float, said: str | None) -> None:
    found = warning({"cores_of_others": others, "load_before": load})
    assert found is None if said is None else said in str(found)


@pytest.mark.skipif(sys.platform != "linux", reason="processes have no such heir elsewhere")
def test_what_an_ended_child_left_behind_is_no_other() -> None:
    Watch()
    before = own_seconds()
    work = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {work!r}])"
    subprocess.run([sys.executable, "-S", "-c", orphan], check=True)
    until = time.monotonic() + 20
    while (used := own_seconds() - before) < 0.5 and time.monotonic() < until:
        time.sleep(0.05)
    assert used >= 0.5
