"""Who may ask."""

from __future__ import annotations

import socket

import pytest

from geodistill.checks import UsageError
from geodistill.viewer import guard


def test_tokens_are_random_and_long() -> None:
    made = {guard.make_token() for _ in range(50)}
    assert len(made) == 50 and all(len(token) >= 32 for token in made)


def test_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.TOKEN_VARIABLE, "abcdefghijklmnop")
    assert guard.make_token() == "abcdefghijklmnop"
    for bad in ("", "short", "with spaces in the middle", "slash/slash/slash/slash"):
        monkeypatch.setenv(guard.TOKEN_VARIABLE, bad)
        with pytest.raises(UsageError, match="choose another token"):
            guard.make_token()


@pytest.mark.parametrize("given", [None, "", "secreT", "secret ", "secretsecret", "sécret"])
def test_wrong_tokens(given: str | None) -> None:
    assert guard.is_token("secret", "secret") and not guard.is_token(given, "secret")


@pytest.mark.parametrize(
    "header, bound, known",
    [
        ("127.0.0.1:8765", "127.0.0.1", True),
        ("localhost:9000", "127.0.0.1", True),  # a forwarded port
        ("LOCALHOST", "127.0.0.1", True),
        ("[::1]:8765", "::1", True),
        ("evil.example:8765", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("192.168.1.5:8765", "127.0.0.1", False),
        ("192.168.1.5:8765", "0.0.0.0", True),
        ("192.168.1.5:8765", "192.168.1.5", True),
        ("evil.example", "0.0.0.0", False),
        (socket.gethostname(), "0.0.0.0", True),
        (None, "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("user@127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1/x", "127.0.0.1", False),
        ("127.0.0.1:port", "127.0.0.1", False),
        ("[::1", "127.0.0.1", False),
    ],
)
def test_hosts(header: str | None, bound: str, known: bool) -> None:
    assert guard.is_known_host(header, bound) is known


@pytest.mark.parametrize(
    "origin, same",
    [
        ("http://127.0.0.1:8765", True),
        ("https://127.0.0.1:8765", True),
        ("http://127.0.0.1:8766", False),
        ("http://localhost:8765", False),
        ("http://127.0.0.1:8765.evil.example", False),
        ("null", False),
        ("", False),
        ("file://127.0.0.1:8765", False),
        (None, False),
    ],
)
def test_origins(origin: str | None, same: bool) -> None:
    assert guard.is_same_origin(origin, "127.0.0.1:8765") is same
