"""A MIFOS that records what it gets, and callers who may call it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from django.test import Client

from breaker.registry import registry
from mifos_gateway import guard, tokens


def mifos_answer(
    status: int = 200, body: bytes | dict[str, Any] = b'{"ok": true}', headers: Mapping[str, str] | None = None
) -> requests.Response:
    """An answer as the client hands it out: read whole, decoded."""
    answer = requests.Response()
    answer.status_code = status
    answer._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer.headers.update({"Content-Type": "application/json"} if headers is None else headers)
    return answer


@dataclass
class FakeMifos:
    """Stands where the client does; answers or raises what a test put into `behaviour`."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    behaviour: requests.Response | Exception | Callable[[], requests.Response] = field(default_factory=mifos_answer)

    def send(self, user: str, method: str, target: str, **more: Any) -> requests.Response:
        self.calls.append({"user": user, "method": method, "target": target, **more})
        if isinstance(self.behaviour, Exception):
            raise self.behaviour
        return self.behaviour if isinstance(self.behaviour, requests.Response) else self.behaviour()

    @property
    def last(self) -> dict[str, Any]:
        return self.calls[-1]


@pytest.fixture
def breakers() -> Iterator[dict[tuple[str, str], Any]]:
    """The twelve, new."""
    registry.forget()
    yield guard.make_breakers()
    registry.forget()
    guard.make_breakers()


@pytest.fixture
def mifos(breakers: dict[tuple[str, str], Any], monkeypatch: pytest.MonkeyPatch) -> FakeMifos:
    fake = FakeMifos()
    guarded = guard.Guard(fake, breakers=breakers, places=4)
    monkeypatch.setattr(guard, "current", lambda: guarded)
    return fake


@pytest.fixture
def token(db: None) -> str:
    return tokens.issue("shop", maker=True, checker=True)


class Caller(Client):
    """Django's test client with a token, and with the request target as a server has received it."""

    def __init__(self, token: str | None = None, **defaults: Any) -> None:
        super().__init__(raise_request_exception=False, **defaults)
        self.token = token

    def call(self, method: str, target: str, body: bytes = b"", **more: Any) -> Any:
        path, _, query = target.partition("?")
        headers = {**({"Authorization": f"Token {self.token}"} if self.token else {}), **more.pop("headers", {})}
        return self.generic(
            method,
            path,
            body,
            content_type=more.pop("content_type", "application/json" if body else ""),
            headers=headers,
            QUERY_STRING=query,
            RAW_URI=more.pop("raw", target),
            **more,
        )

    def mifos(self, target: str = "clients", method: str = "GET", *, user: str = "maker", **more: Any) -> Any:
        return self.call(method, f"/api/v1/mifos/{user}/{target}", **more)


@pytest.fixture
def caller(token: str) -> Caller:
    return Caller(token)
