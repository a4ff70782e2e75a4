"""Finished runs as one file, whatever they are made of: a zip of what predicting with them needs.

Networks, estimators, codebooks and ensembles alike. It holds weights and what was fitted, the
figures, no cell and no name of a specimen; each part with its SHA-256. It is read by what reads
runs, so nothing in it can run code.
"""

import hashlib
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import OmegaConf

from hep2 import __version__
from hep2.errors import HEp2Error
from hep2.prediction.exporting.model import unreadable
from hep2.prediction.judge import weights_of
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_result

SUFFIX = ".hep2"
LISTED = "runs.json"
LARGEST = 4 * 2**30  # bytes of all parts together
LONGEST = 10 * 2**20  # bytes of the list of parts
MOST = 10_000  # parts
PART = re.compile(
    r"[\w][\w.+=,-]*/fold\d+/seed\d+/(config\.yaml|result\.json|(fitted|best|last)\.ckpt)"
)
# What zipfile raises for files that are none.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError,
               EOFError, OSError)  # fmt: skip
# Of result.json. The rest names cells and specimens, files and folders of whoever trained.
TOLD = (
    *("stage", "method", "kind", "data", "synthetic", "protocol", "leaky", "fold", "folds", "seed"),
    *("classes", "data_key", "split_hash", "full_scale", "validation", "members", "calibration"),
    *("novelty", "metrics", "recall", "labels_in_features", "versions"),
)


def write_runs(path: Path, runs: Sequence[Path], beside: Sequence[Path]) -> None:
    """Write the zip of some runs, and of those beside them that they need: members, judges."""
    parts = {
        f"{'/'.join(run.parts[-3:])}/{name}": content
        for run in dict.fromkeys([*runs, *beside])
        for name, content in _parts(run).items()
    }
    listed = {
        "hep2": __version__,
        "runs": ["/".join(run.parts[-3:]) for run in runs],
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(LISTED, json.dumps(listed, indent=1))
        for name, content in parts.items():
            archive.writestr(name, content)


def _parts(run: Path) -> dict[str, bytes]:
    """What predicting with one run reads."""
    result = read_result(RunDir(run).result)
    data = RunDir(run).stored()["data"]
    reading = {key: data.get(key) for key in ("image_size", "channel", "page")}
    told = {key: result[key] for key in TOLD if key in result}
    files = [RunDir(run).fitted, weights_of(run, result)]
    return {
        "config.yaml": OmegaConf.to_yaml({"data": reading}).encode(),
        "result.json": json.dumps(told).encode(),
        **{file.name: file.read_bytes() for file in files if file.is_file()},
    }


@contextmanager
def unpacked(path: Path) -> Iterator[list[Path]]:
    """Directories of the runs of such a file, while they are needed.

    Raises:
        HEp2Error: there is no such file, or it is not as it was written.
    """
    if not path.is_file():
        raise HEp2Error(f"there is no {path}")
    with TemporaryDirectory(prefix="hep2-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                runs = _unpack(path, archive, Path(folder))
        except _UNREADABLE as error:
            raise unreadable(path, f"it cannot be read as a zip ({error})") from error
        yield runs


def _unpack(path: Path, archive: zipfile.ZipFile, folder: Path) -> list[Path]:
    """Write out what the list names; nothing else is in the file."""
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    too_large = sum(sizes.values()) > LARGEST or sizes.get(LISTED, 0) > LONGEST
    if len(sizes) > MOST or too_large or LISTED not in sizes:
        raise unreadable(path, f"it has {len(sizes)} parts of {sum(sizes.values()):,} bytes")
    digests, runs = _listed(path, archive.read(LISTED))
    if sizes.keys() - {LISTED} != digests.keys():
        raise unreadable(path, f"its parts are not those that its {LISTED} names")
    for name, digest in digests.items():
        target = folder / "runs" / "any-data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file)
        if hashlib.sha256(target.read_bytes()).hexdigest() != digest:
            raise unreadable(path, f"{name} is not as it was written")
    return [folder / "runs" / "any-data" / run for run in runs]


def _listed(path: Path, content: bytes) -> tuple[dict[str, str], list[str]]:
    """Digests by part, and the runs."""
    try:
        listed: Any = json.loads(content)
        digests = {str(name): str(digest) for name, digest in listed["sha256"].items()}
        runs = [str(run) for run in listed["runs"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unreadable(path, f"its {LISTED} does not say what was written ({error})") from error
    strange = [name for name in digests if not PART.fullmatch(name)]
    known = {str(PurePosixPath(name).parent) for name in digests}
    if strange or not runs or not known.issuperset(runs):
        raise unreadable(path, f"it names {(strange or runs or ['no run'])[0][:80]!r}")
    return digests, runs
