"""The errors that the schema shows are those that are sent, word for word."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.db import OperationalError
from drf_spectacular.generators import SchemaGenerator

from mifos_gateway import openapi, tokens
from mifos_gateway.answers import too_large
from mifos_gateway.client import MifosClient
from mifos_gateway.errors import AcceptanceUnknown, MifosTimeout, MifosUnavailable
from mifos_gateway.outbox import desk, intake
from mifos_gateway.refusals import ServiceUnavailable
from mifos_gateway.token_memory import memory
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer
from tests.mifos_gateway.peer import config

pytestmark = pytest.mark.django_db


def shown() -> dict[str, Any]:
    """Every example of an error of a POST, by its code."""
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    responses = schema["paths"]["/api/v1/mifos/{client}/{path}"]["post"]["responses"]
    examples = [
        example["value"]
        for status, response in responses.items()
        if status >= "400"
        for example in response["content"]["application/json"]["examples"].values()
    ]
    return {value["code"]: value for value in examples}


class Case:
    """Brings an error about, and gives the answer to it."""

    def __init__(self, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
        self.caller, self.mifos, self.monkeypatch, self.settings = caller, mifos, monkeypatch, settings

    def ask(self, target: str = "clients", method: str = "POST", **more: Any) -> Any:
        more["headers"] = {"X-Request-ID": openapi.REQUEST_ID} | more.get("headers", {})
        return self.caller.mifos(target, method, **more)

    def with_mifos(self, behaviour: Any) -> Any:
        self.mifos.behaviour = behaviour
        return self.ask()

    def with_the_real_client(self, **headers: str) -> Any:
        client = MifosClient(config("http://mifos.invalid"))
        self.monkeypatch.setattr(self.mifos, "send", client.send)
        return self.ask(headers=headers)

    def with_a_body_that_breaks_off(self) -> Any:
        body = io.BytesIO()
        body.close()  # reading raises
        return self.ask(HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": body})

    def with_another_token(self, token: str, **more: Any) -> Any:
        self.caller = Caller(token)
        return self.ask(**more)

    def twice(self, key: str, *bodies: bytes) -> Any:
        return [self.ask(body=body, headers={"Idempotency-Key": key}) for body in bodies][-1]

    def behind_a_deferred_one(self, *, database: bool = True) -> Any:
        self.settings.GATEWAY = {**self.settings.GATEWAY, "DEFERRED_ROUTES": ["POST loans/*"]}
        first = self.ask("loans/5/charges", headers={"Prefer": "respond-async, wait=0"})
        assert first.status_code == 202
        if not database:
            self.monkeypatch.setattr(desk, "ahead", _gone)
        return self.ask("loans/5/charges")

    def broken_off(self) -> Any:
        def unknown(call: Any) -> None:
            raise AcceptanceUnknown("k")

        self.monkeypatch.setattr(intake, "accept", unknown)
        self.settings.GATEWAY = {**self.settings.GATEWAY, "DEFERRED_ROUTES": ["POST clients"]}
        return self.ask(headers={"Prefer": "respond-async, wait=0"})

    def without_database(self) -> Any:
        self.monkeypatch.setattr(memory, "_find", _gone)
        return self.ask()


def _gone(*args: Any) -> None:
    raise OperationalError


def rejected() -> requests.Response:
    raise ServiceUnavailable(breaker="MIFOS-Maker-get", reason="open", retry_after=42)


CASES: dict[str, Callable[[Case], Any]] = {
    "INVALID_PATH": lambda case: case.ask("../users"),
    "INVALID_QUERY": lambda case: case.ask("clients?tenantIdentifier=x"),
    "INVALID_BODY": lambda case: case.with_a_body_that_breaks_off(),
    "INVALID_CALL": lambda case: case.with_the_real_client(Accept="a\x01b"),
    "INVALID_IDEMPOTENCY_KEY": lambda case: case.ask(headers={"Idempotency-Key": "k" * 256}),
    "BAD_REQUEST": lambda case: case.ask(headers={"Host": "elsewhere.example"}),
    "NOT_AUTHENTICATED": lambda case: case.with_another_token(tokens._make()),
    "FORBIDDEN": lambda case: case.with_another_token(tokens.issue("reader", maker=True), user="checker"),
    "ROUTE_DENIED": lambda case: case.ask("users"),
    "NOT_FOUND": lambda case: case.ask(user="other"),
    "METHOD_NOT_ALLOWED": lambda case: case.ask(method="OPTIONS"),
    "REQUEST_TOO_LARGE": lambda case: case.ask(body=b"x" * (10 * 2**20 + 1)),
    "INTERNAL_ERROR": lambda case: case.with_mifos(RuntimeError("a fault of ours")),
    "BAD_GATEWAY": lambda case: case.with_mifos(MifosUnavailable("refused", sent=False)),
    "RESPONSE_TOO_LARGE": lambda case: case.with_mifos(too_large),
    "MIFOS_CREDENTIALS_REJECTED": lambda case: case.with_mifos(mifos_answer(401)),
    "SERVICE_UNAVAILABLE": lambda case: case.with_mifos(rejected),
    "TOKENS_UNAVAILABLE": lambda case: case.without_database(),
    "INVALID_ORDER_KEY": lambda case: case.ask(headers={"X-Order-Key": "k" * 256}),
    "IDEMPOTENCY_KEY_REUSED": lambda case: case.twice("k", b"{}", b"[]"),
    "DEFERRED_AHEAD": lambda case: case.behind_a_deferred_one(),
    "OUTBOX_UNAVAILABLE": lambda case: case.behind_a_deferred_one(database=False),
    "ACCEPTANCE_UNKNOWN": lambda case: case.broken_off(),
    "NOT_CACHED": lambda case: case.ask(method="GET", headers={"Cache-Control": "only-if-cached"}),
    "GATEWAY_TIMEOUT": lambda case: case.with_mifos(MifosTimeout("late", sent="unknown")),
}


def test_every_example_is_compared() -> None:
    assert set(shown()) == set(CASES)


@pytest.mark.parametrize("code", CASES)
def test_an_example_is_what_is_sent(
    caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch, settings: Any, code: str
) -> None:
    answer = CASES[code](Case(caller, mifos, monkeypatch, settings))

    assert json.loads(answer.content) == shown()[code]
