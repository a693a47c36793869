"""One breaker over REST, and acts on it: who may, what is answered, and what is left behind."""

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import DatabaseError
from django.test import Client
from rest_framework.test import APIRequestFactory, force_authenticate

from breaker import operations
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.models import OperatorAct
from breaker.registry import create_circuit_breaker
from breaker.testing import fail, rejected
from breaker.views import ActView
from mifos_gateway import tokens
from mifos_gateway.token_memory import memory
from tests.breaker.conftest import House

pytestmark = pytest.mark.django_db
URL = "/api/v1/circuit-breaker/"


@pytest.fixture(autouse=True)
def breaker() -> SharedCircuitBreaker:
    memory.forget()
    return create_circuit_breaker(name="x").breaker


def ask(path: str, body: Any = None, **scopes: bool) -> Any:
    """GET, or POST with a body, by a consumer with these scopes."""
    headers = {"Authorization": f"Token {tokens.issue('desk', **scopes)}"} if scopes else {}
    client = Client(headers=headers, raise_request_exception=False)
    if body is None:
        return client.get(URL + path)
    content = body if isinstance(body, str) else json.dumps(body)
    return client.post(URL + path, content, content_type="application/json")


def act(path: str, **body: Any) -> Any:
    return ask(path, {"reason": "a test", **body}, operate=True)


def test_an_act_is_answered_with_the_breakers_entry(house: House) -> None:
    theirs = SharedCircuitBreaker("x", sync=house.there)
    answer = act("x/open", forSeconds=600)
    assert answer.status_code == 200
    entry = answer.json()
    assert (entry["name"], entry["state"], entry["forced"], entry["retryAfter"]) == ("x", "OPEN", "open", 600)
    house.beat()
    assert rejected(theirs)


def test_an_act_leaves_who_did_what_and_why() -> None:
    act("x/disable", reason="MIFOS is being upgraded", forSeconds=60)
    row = OperatorAct.objects.get()
    assert (row.actor, row.source, row.action, row.reason) == ("desk", "api", "disable", "MIFOS is being upgraded")
    assert (row.for_seconds, row.status) == (60, "applied")


@pytest.mark.parametrize(
    ("first", "then", "state", "enabled", "forced"),
    [
        ("open", "release", "CLOSED", True, None),
        ("open", "reset", "CLOSED", True, None),
        ("close", None, "CLOSED", True, "closed"),
        ("disable", None, "CLOSED", False, None),
        ("disable", "enable", "CLOSED", True, None),
    ],
)
def test_the_six(first: str, then: str | None, state: str, enabled: bool, forced: str | None) -> None:
    answer = act(f"x/{first}")
    if then:
        answer = act(f"x/{then}")
    entry = answer.json()
    assert (entry["state"], entry["enabled"], entry.get("forced")) == (state, enabled, forced)


@pytest.mark.parametrize("scopes", [{"maker": True, "checker": True}, {"view": True}])
def test_who_may_not_operate_is_refused(scopes: dict[str, bool], breaker: SharedCircuitBreaker) -> None:
    answer = ask("x/open", {"reason": "a test"}, **scopes)
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert "scope operate" in answer.json()["message"]
    assert not OperatorAct.objects.exists()
    assert breaker.current_state == "closed"


@pytest.mark.parametrize("path", ["x", "x/open"])
def test_nobody_acts_or_looks_without_a_token(path: str) -> None:
    answer = ask(path, {"reason": "a test"} if "/" in path else None)
    assert (answer.status_code, answer.json()["code"]) == (401, "NOT_AUTHENTICATED")
    assert answer.headers["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize(
    ("action", "body", "says"),
    [
        ("open", {}, "reason: This field is required."),
        ("open", {"reason": "  "}, "reason: This field may not be blank."),
        ("open", {"reason": "a test", "forSeconds": "long"}, "forSeconds: 'long': a number is needed, such as 600."),
        ("open", {"reason": "a test", "forSeconds": "60"}, "forSeconds: '60': a number is needed"),
        ("open", {"reason": "a test", "forSeconds": True}, "forSeconds: True: a number is needed"),
        ("open", {"reason": "a test", "forseconds": 60}, "forseconds=60: unknown; reason and forSeconds are."),
        ("open", {"reason": 5}, "reason: 5: text is needed."),
        ("open", {"reason": "a" * 2001}, "reason: Ensure this field has no more than 2000 characters."),
        ("open", {"reason": "a test", "forSeconds": 0}, "forSeconds=0.0: above 0 and at most"),
        ("open", {"reason": "a test", "forSeconds": -5}, "forSeconds=-5.0: above 0"),
        ("open", '{"reason": "a test", "forSeconds": 1e999}', "forSeconds: inf: at most 31622400 seconds."),
        ("open", {"reason": "a test", "forSeconds": 10**400}, "forSeconds: 100000000000000000...0000"),
        ("reset", {"reason": "a test", "forSeconds": 5}, "forSeconds=5.0: reset has no duration; leave it out"),
        ("open", [], "Expected a dictionary"),
        ("open", "{", "JSON parse error"),
    ],
)
def test_what_cannot_be_done_names_the_field_and_the_remedy(action: str, body: Any, says: str) -> None:
    answer = ask(f"x/{action}", body, operate=True)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert says in answer.json()["message"]
    assert not OperatorAct.objects.exists()


@pytest.mark.parametrize("path", ["y", "y/open"])
def test_an_unknown_breaker_is_not_there(path: str) -> None:
    answer = act(path) if "/" in path else ask(path, view=True)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert "no breaker 'y'; the closest is x" in answer.json()["message"]


@pytest.mark.parametrize("path", ["x", "x/open"])
def test_who_asks_for_one_breaker_has_no_other_read(house: House, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    create_circuit_breaker(name="y")
    read: list[Any] = []

    def load(names: Any = None, **more: Any) -> Any:
        read.append(names)
        return house.store.load(names, **more)

    monkeypatch.setattr(house.cable, "load", load, raising=False)
    assert (act(path) if "/" in path else ask(path, view=True)).status_code == 200
    assert {tuple(names or ()) for names in read} == {("x",)}


def test_an_unknown_act_is_not_there() -> None:
    assert act("x/explode").status_code == 404


def test_an_act_is_posted() -> None:
    answer = ask("x/open", operate=True)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize("scopes", [{"view": True}, {"operate": True}])
def test_one_breaker_is_seen_as_in_the_status(scopes: dict[str, bool], breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    answer = ask("x", **scopes)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.json() == ask("status").json()["data"]["custom"]["x"]
    assert answer.json()["state"] == "OPEN"


def test_one_breaker_is_not_for_who_calls_mifos_only() -> None:
    assert ask("x", maker=True).status_code == 403


def test_without_the_shared_state_nothing_is_done_and_said(house: House, breaker: SharedCircuitBreaker) -> None:
    house.lose_store()
    answer = act("x/open")
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["message"].startswith("The act was not done")
    assert breaker.current_state == "closed"


def test_without_the_database_nothing_is_done_and_said(
    monkeypatch: pytest.MonkeyPatch, breaker: SharedCircuitBreaker
) -> None:
    def away(**fields: Any) -> Any:
        raise DatabaseError("away")

    monkeypatch.setattr(operations, "_record", away)
    answer = act("x/open")
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert "the database" in answer.json()["message"]
    assert breaker.current_state == "closed"


def test_an_act_that_holds_but_is_not_logged_is_done_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**fields: Any) -> Any:
        raise DatabaseError("away")

    assert "warning" not in act("x/disable").json()
    monkeypatch.setattr(LogEntry.objects, "create", away)
    answer = act("x/open")
    assert (answer.status_code, answer.json()["forced"]) == (200, "open")
    assert answer.json()["warning"] == "Django's log could not be written: away"


def test_an_act_that_holds_but_whose_row_says_pending_is_done_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(row: OperatorAct) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(operations, "_record", lambda **fields: OperatorAct(**fields))
    monkeypatch.setattr(OperatorAct, "save", away)
    answer = act("x/open")
    assert (answer.status_code, answer.json()["warning"]) == (200, "its row still says pending: away")


def test_a_django_user_may_by_permission(admin_user: Any) -> None:
    request = APIRequestFactory().post("/", {"reason": "a test"}, format="json")
    force_authenticate(request, user=admin_user)
    answer = ActView.as_view()(request, name="x", action="open")
    assert answer.status_code == 200
    assert OperatorAct.objects.get().actor == str(admin_user)
