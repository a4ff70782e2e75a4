"""A folder for the Hugging Face hub: card, graph, weights as safetensors, digests of both.

The graph is ONNX, its weights lie beside it in safetensors, which ONNX Runtime reads in place. So a
folder runs without the code that made it, whatever networks it holds, and nothing in it is code.
Weights keep their names; a batch normalisation has been folded into the convolution before it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.prediction.exporting.model import Card, ExportedModel, Traced, missing, unreadable
from hep2.prediction.exporting.onnx import onnx_model, read_onnx

CONFIG, GRAPH, WEIGHTS = "config.json", "model.onnx", "model.safetensors"
FORMAT = "hep2 hub folder 1"


def write_hub(folder: Path, traced: Traced, card: Card) -> None:
    """Write the folder; its config.json tells what its user must know, and the digests."""
    model = onnx_model(traced)
    import onnx_ir

    folder.mkdir()
    onnx_ir.save_safetensors(onnx_ir.from_proto(model), folder / GRAPH)
    config = {
        "format": FORMAT,
        **traced.facts,
        "classes": list(card.classes),
        "sha256": {name: _digest(folder / name) for name in (GRAPH, WEIGHTS)},
    }
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    write_atomic(folder / "README.md", card.text)
    write_atomic(folder / "confusion.png", card.picture)


def may_write(folder: Path) -> bool:
    """Whether a folder is new, empty, or one that `write_hub` wrote before."""
    if not folder.exists():
        return True
    return folder.is_dir() and (not any(folder.iterdir()) or (folder / WEIGHTS).is_file())


def read_hub(folder: Path) -> ExportedModel:
    """Read a folder whose graph and weights are those that its config.json names.

    Raises:
        HEp2Error: it is no such folder, a file is missing or was changed, or ONNX Runtime is not
            installed.
    """
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        digests = {name: str(config["sha256"][name]) for name in (GRAPH, WEIGHTS)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, f"no {CONFIG} that names digests ({error})") from error
    for name, digest in digests.items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise unreadable(folder / name, f"it is not the file that {CONFIG} names")
    return read_onnx(folder / GRAPH)


def push(folder: Path, repository: str) -> str:
    """Upload a folder to a model repository, which is made where there is none; returns its URL.

    Raises:
        HEp2Error: the package is missing, nobody is logged in, or the hub did not take it. The
            folder stays as it is.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise missing(error, f"push={repository}") from error
    stays = f"{folder} is complete: try again, or upload it by hand"
    if not huggingface_hub.get_token():
        raise HEp2Error(f"nobody is logged in to the hub: run hf auth login; {stays}")
    try:
        hub = huggingface_hub.HfApi()
        hub.create_repo(repository, exist_ok=True)
        done = hub.upload_folder(folder_path=folder, repo_id=repository)
    except HFValidationError as error:
        raise HEp2Error(f"push={repository} names no repository: {error}; {stays}") from error
    except _losses() as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise HEp2Error(f"the hub did not take {repository}: {first}; {stays}") from error
    return str(done)


def _losses() -> tuple[type[Exception], ...]:
    """What the hub's library raises where the network, or the hub, fails.

    Its errors of the network are those of its library for HTTP, which is another one in every
    major version; the hub's own answers are a subclass of them.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
