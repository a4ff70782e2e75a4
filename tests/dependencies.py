"""The packages that hep2 brings into an environment: `python tests/dependencies.py` lists them."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]

# torch has a wheel for each kind of hardware, thus no single hash; the others are parts of it that
# no other package needs, some of them NVIDIA's own, under NVIDIA's terms.
PARTS_OF_TORCH = re.compile(r"torch|triton|(nvidia|cuda)-.+")


def requirements() -> list[Requirement]:
    """All that pyproject.toml asks for: to build, to run, and every extra."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [asked["build-system"]["requires"], asked["project"]["dependencies"]]
    groups += asked["project"]["optional-dependencies"].values()
    return [Requirement(line) for group in groups for line in group]


def installed() -> Iterator[Distribution]:
    """What `requirements` bring into this environment, and what those bring, each once."""
    waiting, followed = requirements(), set()
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in followed:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform, or an extra that is not installed here
        if not any(name == other for other, _ in followed):
            yield package
        followed.add((name, extras))
        for line in package.requires or ():
            further = Requirement(line)
            if not further.marker or any(
                further.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                waiting.append(further)


# Packages whose metadata name a family of licences alone; what their LICENSE says.
UNSAID = {"skops": "MIT"}


def licence(package: Distribution) -> str:
    """As its metadata say it: the SPDX expression, else the classifiers, else a first line.

    That is the free text's, or where there is none the licence file's.
    """
    expression = package.metadata.get("License-Expression")
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in package.metadata.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    brought = (file.read_text() for file in package.files or () if file.match("licenses/LICENSE*"))
    free_text = package.metadata.get("License") or next(brought, "unknown")
    named = expression or " AND ".join(classifiers) or free_text.strip().partition("\n")[0]
    return UNSAID.get(package.name, named) if named == "OSI Approved" else named


if __name__ == "__main__":
    for package in sorted(installed(), key=lambda package: canonicalize_name(package.name)):
        print(f"{package.name:40} {package.version:16} {licence(package)}")
