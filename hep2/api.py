"""Runs and audits from Python, without a shell: `hep2 train`, `hep2 report`, `hep2 audit`.

The names are those of the package: `import hep2`, then `hep2.fit` and so on. What is wrong with
settings, files or data is a `hep2.HEp2Error`, one sentence.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hep2 import cli
from hep2.config import composed
from hep2.errors import HEp2Error
from hep2.evaluation.split_audit import SplitAudit, audit_table
from hep2.rundir.layout import run_directories
from hep2.rundir.result import Run, protocol_label, read_run

if TYPE_CHECKING:
    import pandas as pd


def fit(overrides: Sequence[str] = ()) -> Run:
    """Train one stage on one fold and score it on the test cells, as `hep2 train` does.

    A finished run is not done again; one that was interrupted goes on. A folder conf/ in the
    working directory is searched before the settings that come with hep2.

    >>> import hep2
    >>> hep2.fit(["stage=dcae", "flod=1"])
    Traceback (most recent call last):
    ...
    hep2.errors.HEp2Error: there is no setting flod; did you mean fold?

    Args:
        overrides: settings, each `key=value` as on the command line.

    Returns:
        The run: where it lies, what it was and measured (`path`, `metrics`, `predictions` ...).

    Raises:
        HEp2Error: a setting, an input or a file is wrong; the message says how to mend it.
    """
    if isinstance(overrides, str):
        raise HEp2Error(f"overrides are a list: fit([{overrides!r}])")
    with cli.plainly(), warnings.catch_warnings():
        cli.ignore_unfounded()
        cfg = composed(overrides)
        from hep2.run import fit as run_fit  # heavy imports wait until the settings are right

        return read_run(run_fit(cfg).path)


def runs(name: str = "default", runs_dir: str | Path = "runs") -> "pd.DataFrame":
    """The finished runs of a name, a row each: what they are, and their metrics of the test cells.

    >>> import hep2
    >>> hep2.runs("no such name")
    Traceback (most recent call last):
    ...
    hep2.errors.HEp2Error: runs/no such name has no finished run

    Returns:
        Columns data, protocol (leaky ones end in -leaky), synthetic, stage, method, fold, seed,
        seconds, path, and one a metric ("mca", "aca", ... in [0, 1]; NaN where it is undefined).

    Raises:
        HEp2Error: there is none, or one is damaged.
    """
    import pandas as pd

    root = Path(runs_dir) / name
    finished, _ = run_directories(root)
    if not finished:
        raise HEp2Error(f"{root} has no finished run")
    return pd.DataFrame([_row(read_run(path)) for path in finished])


def _row(run: Run) -> dict[str, Any]:
    known = {key: getattr(run, key) for key in ("data", "synthetic", "stage", "method", "fold",
                                                "seed", "seconds", "path")}  # fmt: skip
    metrics = {key.rpartition("/test/")[2]: value for key, value in run.metrics.items()}
    return {"protocol": protocol_label(run)} | known | metrics


def audit(
    table: "str | Path | pd.DataFrame",
    root: str | Path | None = None,
    channel: str = "green",
    **columns: str | None,
) -> SplitAudit:
    """Say what stands on both sides of anybody's split.

    >>> import hep2
    >>> hep2.audit("split.csv", specimen="slide").leaks  # doctest: +SKIP
    True

    Args:
        table: a CSV or a DataFrame, a row a cell: image, label, specimen if known, and split or
            fold. Messages count the rows of a DataFrame from 0.
        root: the folder that images are relative to; None: the CSV's, or the working directory.
        channel: of colour images.
        columns: what the table calls image, label, specimen, split and fold; None: it has none.

    Returns:
        The audit: `leaks`, `shared` (specimens on both sides), `worth` ...

    Raises:
        HEp2Error: the table or an image is faulty; all bad rows are named.
    """
    from hep2.data.split_table import Columns

    try:
        named = Columns(**columns)
    except TypeError as error:
        raise HEp2Error("columns are image, label, specimen, split and fold") from error
    where = Path(root) if root else None
    if isinstance(table, str | Path):
        return audit_table(Path(table), named, where, channel)
    return audit_table(Path("the table"), named, where, channel, _texts(table))


def _texts(table: "pd.DataFrame") -> list[tuple[int, dict[str, str]]]:
    """The rows of a DataFrame as those of a CSV are read: numbers, and {column: text}."""
    if table.empty:
        raise HEp2Error("the table has no rows; give a row for each cell")
    filled = table.astype(object).where(table.notna(), "").rename(columns=str)
    rows = filled.to_dict("records")
    return [(number, {str(key): str(value).strip() for key, value in row.items()})
            for number, row in enumerate(rows)]  # fmt: skip
