"""The folder of a Hugging Face model: the user's own, one in the hub's cache, or a fresh one."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from geodistill.checks import InputError
from geodistill.io.extras import require

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]  # pickles are not even fetched
_PATIENCE_S = 5.0


def model_folder(source: str) -> Path:
    """Where the files of a model lie. A name "org/name" is fetched unless it is in the cache.

    Raises InputError when there is no such folder, and when a hub name cannot be fetched.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{source} is a file: give the folder of the model, with its config.json")
    if source.count("/") != 1 or source.startswith((".", "~", "/")):
        raise InputError(f"{source} does not exist: give the folder of a Hugging Face model")
    hub = require("huggingface_hub", "hub", f"fetching {source}")
    hub.utils.logging.set_verbosity_error()
    try:
        return Path(hub.snapshot_download(source, local_files_only=True, allow_patterns=_WANTED))
    except Exception:  # not in the cache
        pass
    try:
        _expect_reachable(hub.constants)
        return Path(hub.snapshot_download(source, allow_patterns=_WANTED))
    except Exception as error:  # of many kinds, by the transport in use
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{source} is no folder here and could not be fetched from the hub ({reason}): "
            "download its files elsewhere and give their folder as the teacher"
        ) from None


def _expect_reachable(constants: Any) -> None:
    """Fail at once without a network: the library would try six times over half a minute."""
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if getproxies():
        return
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise OSError(f"{address.hostname} cannot be reached: {error.strerror or error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises InputError when it is absent or damaged."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} has no {path.name}: it is not the folder of a Hugging Face vision model"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it is not a JSON object; copy it again")
    return value
