"""metrics.csv, whole, torn and damaged: a run goes on with what can be read."""

import logging
import math
from pathlib import Path

import pytest

from hep2.errors import HEp2Error
from hep2.rundir.metrics_csv import (
    MetricsCsv,
    Progress,
    learning_curves,
    read_progress,
    read_rows,
    validation_mca,
)

WHOLE = b"step,epoch,val/loss,val/specimen/mca\n3,0,0.5,0.25\n7,1,nan,0.5\n11,2,0.125,0.75\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "metrics.csv"
    file.write_bytes(WHOLE)
    return file


def test_all_questions_are_answered_from_one_file(file: Path) -> None:
    columns, rows = read_rows(file)
    assert columns == ["step", "epoch", "val/loss", "val/specimen/mca"]
    assert [row["val/loss"] for row in rows] == ["0.5", "nan", "0.125"]
    assert read_progress(file.parent) == Progress(3, "val/specimen/mca 0.75")
    assert learning_curves(file.parent) == {
        "val/loss": [[0, 0.5], [2, 0.125]],
        "val/specimen/mca": [[0, 0.25], [1, 0.5], [2, 0.75]],
    }
    assert validation_mca(file.parent) == 0.75
    file.unlink()
    assert read_progress(file.parent) == Progress()
    assert learning_curves(file.parent) == {}
    with pytest.raises(HEp2Error, match=r"metrics\.csv cannot be read: No such file"):
        validation_mca(file.parent)


def test_a_whole_file_is_only_added_to(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = file.stat().st_ino
    MetricsCsv(file).add({"step": "15", "epoch": "3", "val/loss": "0.2"})
    assert file.read_bytes() == WHOLE + b"15,3,0.2,\n"
    assert file.stat().st_ino == before
    MetricsCsv(file).add({"step": "15", "epoch": "3", "val/loss": "0.2"})  # nothing new
    assert file.read_bytes() == WHOLE + b"15,3,0.2,\n"
    assert not caplog.records


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        (b"7,1,nan", b"7,1,n\xff", b"7,1,,0.5\n"),
        (b"7,1,nan,0.5\n", b"7,1,nan,0.5,9\n", b"7,1,nan,0.5\n"),
        (b"7,1,nan,0.5\n", b"7,1\n", b"7,1,,\n"),
        (b"7,1,nan,0.5\n", b"\0\0\0\0\n", b",,,\n"),
        (b"7,1,nan,0.5\n", b"7,1,many,0.5\n", b"7,1,,0.5\n"),
    ],
)
def test_what_is_damaged_is_left_out_and_told(
    old: bytes, new: bytes, left: bytes, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert old in WHOLE
    file.write_bytes(WHOLE.replace(old, new))
    with caplog.at_level(logging.WARNING):
        MetricsCsv(file).add({"step": "15", "epoch": "3", "val/loss": "0.2"})
    assert [record.getMessage() for record in caplog.records] == [
        f"{file} is damaged: what is left of it is kept"
    ]
    lines = WHOLE.splitlines(keepends=True)
    assert file.read_bytes() == b"".join([*lines[:2], left, lines[3], b"15,3,0.2,\n"])
    assert read_progress(file.parent) == Progress(4, "val/specimen/mca 0.75")
    assert validation_mca(file.parent) == 0.75


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\0", b"\n", b'"', b"step,epoch,val/loss\n" + b'"' * 200_001 + b"\n",
     b"epoch,val/loss\ninf,1\n-3,1\n1e400,x\n", b"x" * 200_000 + b"\n1\n"],
)  # fmt: skip
def test_any_damage_is_read(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert read_progress(file.parent).epochs == 0
    assert all(
        math.isfinite(y) for points in learning_curves(file.parent).values() for _, y in points
    )
    with pytest.raises(HEp2Error, match="no MCA on validation cells"):
        validation_mca(file.parent)
    MetricsCsv(file).add({"step": "1", "val/loss": "0.5"})
    assert read_rows(file)[1][-1] == {"step": "1", "val/loss": "0.5"}
