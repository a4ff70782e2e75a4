"""What results.json says of the machine, and when figures are not to be trusted."""

import pytest

from benchmarks.machine import Watch, warning


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
