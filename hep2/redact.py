"""Keys and passwords never reach a file: what is stored or sent has them blotted out."""

import os
import re
from collections.abc import Mapping
from typing import Any

BLOT = "***"
_SECRET = re.compile(r"(api|access|private)_?key|token|secret|password", re.IGNORECASE)


def redacted(node: Any) -> Any:
    """A configuration, as plain containers, without secrets.

    Blotted out are values under a key that names a secret (api_key, token, secret, password), and
    W&B's key from the environment wherever it stands.
    """
    if isinstance(node, Mapping):
        return {
            key: BLOT if value and _SECRET.search(str(key)) else redacted(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [redacted(value) for value in node]
    key = os.environ.get("WANDB_API_KEY")
    return node.replace(key, BLOT) if key and isinstance(node, str) else node


def redacted_words(words: list[str]) -> list[str]:
    """The overrides of a command line without secrets."""
    return [
        f"{name}{equals}{BLOT if value and _SECRET.search(name) else redacted(value)}"
        for name, equals, value in (word.partition("=") for word in words)
    ]
