"""Whether Weights & Biases runs online or offline, found out without asking the user."""

import configparser
import netrc
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from hep2.errors import HEp2Error

CONNECT_SECONDS = 2.0
MODES = {mode: mode for mode in ("auto", "online", "offline", "disabled")}
MODES |= {"run": "online", "shared": "online", "dryrun": "offline"}  # W&B's older names


def choose_mode(asked: str) -> tuple[str, str]:
    """How W&B shall run, without ever asking the user and without importing wandb.

    Args:
        asked: auto, online, offline or disabled; WANDB_MODE in the environment wins over it.

    Returns:
        online, offline or disabled, and a sentence that says why it is offline when it was not
        asked to be ("" otherwise).

    Raises:
        HEp2Error: the mode is unknown.
    """
    wanted = os.environ.get("WANDB_MODE") or asked
    if wanted not in MODES:
        raise HEp2Error(
            f"logger.wandb.mode (or WANDB_MODE) is {wanted!r}: "
            "choose auto, online, offline or disabled"
        )
    mode = MODES[wanted]
    if mode in ("offline", "disabled"):
        return mode, ""
    stored = _stored_settings()
    url = os.environ.get("WANDB_BASE_URL") or stored.get("base_url", "https://api.wandb.ai")
    if not _logged_in(url, stored):  # W&B would ask for a key on a terminal, and wait for ever
        return "offline", f"no API key for {url}: `wandb login` puts later runs online"
    if mode == "auto" and not _reachable(url):
        return "offline", f"no connection to {url} within {CONNECT_SECONDS:g} s"
    return "online", ""


def _stored_settings() -> dict[str, str]:
    folder = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    parser = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error, OSError, UnicodeDecodeError):
        parser.read(folder / "settings")
    return dict(parser["default"]) if parser.has_section("default") else {}


def _logged_in(url: str, stored: Mapping[str, str]) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if stored.get("api_key"):
        return True
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for file in files:
        with suppress(netrc.NetrcParseError, OSError):
            entry = netrc.netrc(Path(file).expanduser()).authenticators(urlsplit(url).netloc)
            return bool(entry and entry[2])
    return False


def _reachable(url: str) -> bool:
    """Whether the server, or the proxy before it, takes a TCP connection."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    answered = threading.Event()

    def connect() -> None:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with suppress(OSError):
            socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
            answered.set()

    # In a thread, because resolving the name takes no time limit.
    return within(CONNECT_SECONDS, connect) and answered.is_set()


def within(seconds: float, action: Callable[[], None]) -> bool:
    """Whether the action ended in time; if not it is left behind in a daemon thread."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
