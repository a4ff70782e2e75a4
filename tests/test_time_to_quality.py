"""The benchmark of minutes to a good number: its bare script learns, and its table is right."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_DATA

from benchmarks import time_to_quality as benchmark


def test_the_bare_script_is_both_stages(tmp_path: Path, cache_dir: Path) -> None:
    words = (*TINY_DATA, "model.network.widths=[4,8,8,256]", "features.orientations=2")
    seconds, mca = benchmark.bare_script(str(tmp_path), 1, *words, f"cache_dir={cache_dir}")
    assert 0 < seconds < 100 and 0 <= mca <= 1


def test_minutes_are_those_of_the_fewest_epochs_that_are_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = {5: (100.0, 0.7), 10: (200.0, 0.85), 60: (600.0, 0.92)}
    bare = {5: (300.0, 0.6), 10: (400.0, 0.7), 60: (1200.0, 0.91)}
    monkeypatch.setattr(benchmark, "_train", lambda *_: (50.0, 0.83))
    monkeypatch.setattr(benchmark, "_ours", lambda _, epochs: ours[epochs])
    monkeypatch.setattr(benchmark, "bare_script", lambda _, epochs: bare[epochs])
    rows = benchmark.rows()
    assert [row.ours for row in rows] == [200 / 60, 10, 200 / 60]
    assert [row.ratio for row in rows] == [6, 2, 0.25]
    assert "bare, 60 epochs: 1200 s, MCA 0.910" in capsys.readouterr().err
    bare[60] = (1200.0, np.nan)
    assert benchmark.rows()[0].other == float("inf")
