"""JSON Schemas of conf/, so that editors complete settings and mark misspelt ones: `hep2 schema`.

Made of the files of conf/ (keys, values, the comments behind them) and of the constructors that
they name (other arguments, and types), of the user's own folder as well.
"""

import argparse
import importlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import yaml

from hep2.config import TrainConfig, conf_folders
from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.programs.commented import read_page

Schema = dict[str, Any]

# What takes the settings of a place that names no constructor itself.
CONSTRUCTORS = {
    "augment": "hep2.data.augment.Augmentation",
    "stage.optimizer": "hep2.tasks.optim.adamw",
}
TABLES = {  # or one of these, by the name that is chosen there
    "model.network": "hep2.nets.architectures.ENCODERS",
    "head": "hep2.nets.architectures.HEADS",
    "stage.objective": "hep2.stages.autoencoder.OBJECTIVES",
}
# Entries are the user's to name, or whatever a library takes.
FREE = ("callbacks", "logger", "trainer", "data.source", "features.encoders", "stage.encoders")
TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    tuple: "array",
}
REFERENCE: Schema = {"type": "string", "pattern": r"\$\{|\?\?\?"}  # OmegaConf's own words


def schemas(roots: list[Path]) -> dict[str, Schema]:
    """A schema for each group, and `train` for the whole, by the names of their files.

    Args:
        roots: folders like conf/, hep2's own last.
    """
    made = {group: _group(roots, group) for group in groups(roots)
            if group.partition("/")[0] not in ("experiment", "debug", "hydra")}  # fmt: skip
    file = roots[-1] / "train.yaml"
    own = _mapping("", [yaml.safe_load(file.read_text("utf-8"))], _comments(file))
    known = own["properties"] | made
    choices = {
        f"{prefix}{group}": {"enum": [*(file.stem for file in _options(roots, group)), None]}
        for group in groups(roots)
        for prefix in ("", "/", "override ", "override /")
    }
    chosen = {"anyOf": [{"type": "string"}, {"type": "object", "properties": choices}]}
    properties = {one.name: known.get(one.name, {}) for one in fields(TrainConfig)}
    properties |= {"defaults": {"type": "array", "items": chosen}, "hydra": {}}
    return made | {"train": own | {"properties": properties}}


def _group(roots: list[Path], group: str) -> Schema:
    """What an option of a group may hold, with what comes into it from a group within the group."""
    read, comments = list[Mapping[str, Any]](), dict[str, str]()
    for one in groups(roots):
        if f"{one}/".startswith(f"{group}/"):
            within = one.removeprefix(group).removeprefix("/")
            for file in _options(roots, one):
                content = yaml.safe_load(file.read_text("utf-8")) or {}
                read.append({within: content} if within else content)
                said = _comments(file).items()
                comments |= {f"{within}.{path}".lstrip("."): note for path, note in said}
    schema = _mapping(group, read, comments)
    return schema | {"properties": {**schema["properties"], "defaults": {"type": "array"}}}


def groups(roots: list[Path]) -> list[str]:
    """The folders of conf/ that hold options."""
    return sorted({
        file.parent.relative_to(root).as_posix()
        for root in roots for file in root.glob("**/*.yaml") if file.parent != root
    })  # fmt: skip


def _options(roots: list[Path], group: str) -> list[Path]:
    return sorted(file for root in roots for file in (root / group).glob("*.yaml"))


def _mapping(place: str, read: list[Mapping[str, Any]], comments: Mapping[str, str]) -> Schema:
    """What may stand in a mapping: what stands there in some file, and what constructors take."""
    properties: Schema = {}
    targets = {str(one["_target_"]) for one in read if "_target_" in one}
    if place in CONSTRUCTORS:
        targets.add(CONSTRUCTORS[place])
    taken = _defaults([*map(_named, sorted(targets)), *_table(place)])
    # Libraries take more than their defaults tell, and entries are the user's to name.
    free = place in FREE or place.partition(".")[0] in FREE
    for key in [*dict.fromkeys(key for one in read for key in one), *taken]:
        below = f"{place}.{key}" if place else str(key)
        values = [*(one[key] for one in read if key in one), *taken.get(key, [])]
        if any(isinstance(value, Mapping) for value in values):
            inside = [value for value in values if isinstance(value, Mapping)]
            known = _mapping(below, inside, comments)
            properties[key] = {"anyOf": [known, REFERENCE, {"type": "null"}]}
        else:
            properties[key] = {} if free else _leaf(values)
        path = below.partition(".")[2] if place else below
        if path in comments:
            properties[key] = properties[key] | {"description": comments[path]}
    return {"type": "object", "properties": properties, "additionalProperties": free}


def _leaf(values: list[Any]) -> Schema:
    """Types of the values that a setting has in some file; anything where it is null everywhere."""
    types = {TYPES.get(type(value), "object") for value in values if value is not None}
    types |= {"number"} if "integer" in types else set()
    if not types:
        return {}
    either: Schema = {"type": sorted(types | {"null"})}
    return either if "string" in types else {"anyOf": [either, REFERENCE]}


def _named(target: str) -> Any:
    """What stands under a dotted name; None where that fails."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception:  # there is none, or importing it fails in a dozen ways
        return None


def _table(place: str) -> list[Any]:
    return list(_named(TABLES[place]).values()) if place in TABLES else []


def _defaults(constructors: list[Any]) -> dict[str, list[Any]]:
    """What constructors take, each with its defaults; None where it has none."""
    taken: dict[str, list[Any]] = {"_target_": [""]} if constructors else {}
    for constructor in constructors:
        try:
            arguments = inspect.signature(constructor).parameters
        except (TypeError, ValueError):  # None, or one that does not tell
            continue
        for key, one in arguments.items():
            default = None if one.default is inspect.Parameter.empty else one.default
            if one.kind is not inspect.Parameter.VAR_KEYWORD:
                also = [""] if str in get_args(one.annotation) else []  # of bool | str
                taken.setdefault(key, []).extend([default, *also])
    return taken


def _comments(file: Path) -> dict[str, str]:
    """What comments say of settings, by the settings' paths in the file: "optimizer.lr"."""
    said = {one.key: [one.note] * bool(one.note) + one.above
            for one in read_page(file.read_text("utf-8")).settings}  # fmt: skip
    return {key: " ".join(lines) for key, lines in said.items() if lines}


def main() -> None:
    """Write the schemas into a folder, and print what VS Code's YAML extension is to be told."""
    parser = argparse.ArgumentParser(
        prog="hep2 schema", description="Write JSON Schemas of conf/ into a folder, for editors."
    )
    parser.add_argument("folder", type=Path, help="where to")
    folder = parser.parse_args().folder
    where: dict[str, list[str]] = {}
    for name, schema in schemas(conf_folders()).items():
        file = folder / f"{name.replace('/', '-')}.json"
        schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
        try:
            write_atomic(file, json.dumps(schema, indent=1))
        except (OSError, HEp2Error) as error:
            sys.exit(f"error: cannot write {file}: {error}")
        also = ["conf/experiment/**/*.yaml"] if name == "train" else []
        within = "conf/train.yaml" if name == "train" else f"conf/{name}/*.yaml"
        where[str(file)] = [within, *also]
    print(json.dumps({"yaml.schemas": where}, indent=1))
