"""Who may ask: a token in the address, and no page of another site.

A web site that the user visits can make the browser send requests to this machine. The token keeps
it from guessing the address, the check of Host from reaching the server under a name of its own
(DNS rebinding), the check of Origin from opening a websocket.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import socket
from urllib.parse import urlsplit

from geodistill.checks import UsageError

TOKEN_VARIABLE = "GEODISTILL_TOKEN"
"""Environment variable whose value is the token, so that an address outlives its server."""
LEAST_TOKEN = 16


def make_token() -> str:
    """The token of the environment, or a random one. Raises UsageError for one that is too short
    or does not fit into an address."""
    given = os.environ.get(TOKEN_VARIABLE)
    if given is None:
        return secrets.token_urlsafe(24)
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{{LEAST_TOKEN},128}}", given):
        raise UsageError(
            f"{TOKEN_VARIABLE} must be {LEAST_TOKEN} to 128 letters, digits, - and _: choose "
            "another token, or unset it for a random one"
        )
    return given


def is_token(given: str | None, token: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), token.encode())


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_known_host(header: str | None, bound: str) -> bool:
    """Whether a Host header names this machine: as it was bound, as localhost, and, of a server
    that others may reach, by address or as the machine is called. Ports may be forwarded."""
    name = _host(f"//{header}") if header else None
    if name is None:
        return False
    if name == bound.lower() or is_loopback(name):
        return True
    if is_loopback(bound):
        return False
    own = socket.gethostname().lower()
    return _is_address(name) or name in (own, own.split(".")[0])


def is_same_origin(origin: str | None, host: str | None) -> bool:
    """Whether an Origin header is that of the page that this Host serves."""
    if not origin or not host:
        return False
    scheme, separator, rest = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and rest.lower() == host.lower()


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError for a port that is none
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
