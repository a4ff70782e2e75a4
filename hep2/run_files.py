"""The record of truth of a run: metrics.csv and pictures/, written whatever else is lost."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from hep2.errors import HEp2Error
from hep2.files import write_atomic

Row = dict[str, str]


class RunFiles(Logger):
    """Writes every row of metrics into `<run_dir>/metrics.csv` at once, pictures into `pictures/`.

    Lightning's own CSVLogger deletes what it finds. This one goes on: a new column rewrites the
    file, and a row of the same step and the same metrics (steps that a resumed run repeats after
    its last checkpoint) takes the earlier one's place.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._file = run_dir / "metrics.csv"
        self._columns: list[str] = []
        self._rows: dict[tuple[str, frozenset[str]], Row] | None = None  # None: not read yet

    @property
    def name(self) -> str:
        """No name: the run directory says it all."""
        return ""

    @property
    def version(self) -> str:
        """No version: a run directory holds one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self._run_dir)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `config.yaml` is in the run directory."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add one row.

        Raises:
            HEp2Error: the file cannot be written or the disk is full.
        """
        if self._rows is None:
            self._rows = self._read()
        row = {"step": "" if step is None else str(step)}
        row |= {
            key: str(getattr(value, "item", lambda v=value: v)()) for key, value in metrics.items()
        }
        key = (row["step"], frozenset(row))
        if self._rows.get(key) == row:
            return
        fits = key not in self._rows and set(row) <= set(self._columns)
        self._rows[key] = row
        if fits:
            self._append(row)
        else:
            self._columns += [name for name in row if name not in self._columns]
            write_atomic(self._file, self._text(list(self._rows.values()), header=True))

    def log_images(
        self, key: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Write `pictures/<key>-step<step>-<i>.png`, the caption as the PNG's description."""
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
            text = PngInfo()
            text.add_itxt("Description", caption)
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG", pnginfo=text)
            name = f"{key.replace('/', '-')}-step{step:06d}-{i}.png"
            write_atomic(self._run_dir / "pictures" / name, buffer.getvalue())

    def _read(self) -> dict[tuple[str, frozenset[str]], Row]:
        if not self._file.is_file():
            return {}
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):  # torn when the process was killed
            lines.pop()
            write_atomic(self._file, "".join(lines))
        reader = csv.DictReader(lines)
        self._columns = list(reader.fieldnames or [])
        rows = [{name: value for name, value in row.items() if value} for row in reader]
        return {(row.get("step", ""), frozenset(row)): row for row in rows}

    def _append(self, row: Row) -> None:
        try:
            with self._file.open("a", newline="", encoding="utf-8") as file:
                file.write(self._text([row], header=False))
        except OSError as error:
            raise HEp2Error(
                f"cannot write {self._file}: {error.strerror}; free some space"
            ) from error

    def _text(self, rows: Sequence[Row], header: bool) -> str:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue()
