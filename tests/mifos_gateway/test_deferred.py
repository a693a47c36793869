"""Writes that are accepted while MIFOS cannot take them: who gets a 202, what is kept, and what goes to MIFOS later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, transaction

from breaker.registry import registry
from mifos_gateway import maker, tokens
from mifos_gateway.errors import GatewayError, InvalidCall, MifosTimeout, MifosUnavailable
from mifos_gateway.fallbacks import Deferred, FailFast
from mifos_gateway.models import DeferredRequest, UsedKey
from mifos_gateway.outbox import clock, delivery, desk, intake
from mifos_gateway.outbox.desk import NotPossible
from mifos_gateway.outbox.turnstile import PLACES, Turnstile
from mifos_gateway.refusals import DeferredAhead, IdempotencyKeyReused, ServiceUnavailable
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer

pytestmark = pytest.mark.django_db

AWAY = MifosUnavailable("It refuses connections.", sent=False)
LOST = MifosTimeout("It was too slow.", sent="unknown")
ASYNC = {"Prefer": "respond-async"}
BODY = b'{"name": "Asha"}'


@pytest.fixture
def routes(settings: Any) -> Any:
    """Says which routes may be deferred."""

    def name(given: Any = ("POST clients", "POST loans/*"), **more: Any) -> None:
        settings.GATEWAY = {**settings.GATEWAY, "DEFERRED_ROUTES": given, **more}

    name()
    return name


def open_circuit(mifos: FakeMifos, key: str = "post") -> None:
    breaker = registry.circuits[f"MIFOS-Maker-{key}"]
    while breaker.current_state != "open":
        mifos.behaviour = MifosUnavailable("It hung up.", sent="unknown")
        with pytest.raises(GatewayError):
            maker.request(key.upper(), "notes", fallback=FailFast())
    mifos.behaviour = mifos_answer()


def accept(caller: Caller, target: str = "clients", method: str = "POST", **more: Any) -> Any:
    headers = {**ASYNC, **more.pop("headers", {})}
    return caller.mifos(target, method, body=more.pop("body", BODY), headers=headers, **more)


def send_all(limit: int = 50, *, at: Any = None) -> list[str]:
    """One look of a runner: the outcomes of all that can be sent now, in the order of their sending."""
    outcomes = []
    for leased in delivery.lease(at or clock.now(), limit=limit, breakers=[*registry.circuits]):
        made = delivery.attempt(leased)
        delivery.settle(leased, made)
        outcomes.append(made.verdict.outcome)
    return outcomes


def due_now() -> None:
    DeferredRequest.objects.filter(status="queued").update(due_at=clock.now())


def only() -> DeferredRequest:
    return DeferredRequest.objects.get()


# -- who gets a 202 ----------------------------------------------------------------------------------------------------


def test_a_rejected_write_is_accepted_for_later(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    sent = len(mifos.calls)
    answer = accept(caller, headers={"Idempotency-Key": "order-1"})
    assert (answer.status_code, answer["X-Fallback"], answer["Preference-Applied"]) == (
        202,
        "deferred",
        "respond-async",
    )
    told = answer.json()
    assert answer["Location"] == f"/api/v1/deferred-requests/{told['id']}"
    assert answer["Idempotency-Key"] == told["idempotencyKey"] == "order-1"
    assert (told["status"], told["client"], told["method"], told["path"]) == ("queued", "maker", "POST", "clients")
    assert (told["orderKey"], told["position"], told["attempts"], told["response"]) == (None, 1, [], None)
    assert len(mifos.calls) == sent
    assert caller.call("GET", answer["Location"]).json() == told


@pytest.mark.parametrize(("raw", "length"), [(False, 43), (True, 32)])
def test_nothing_is_accepted_while_mifos_answers(
    routes: Any, caller: Caller, mifos: FakeMifos, raw: bool, length: int
) -> None:
    routes(RAW_IDEMPOTENCY_KEYS=raw)
    answer = accept(caller)
    assert (answer.status_code, answer.json(), "Location" in answer) == (200, {"ok": True}, False)
    assert not DeferredRequest.objects.exists()
    assert len(mifos.last["headers"]["Idempotency-Key"]) == length  # it could have been lost
    sent = mifos.last["headers"]["Idempotency-Key"]
    again = accept(caller, headers={"Idempotency-Key": answer["Idempotency-Key"]})  # one of ours, to repeat it by
    assert (again.status_code, mifos.last["headers"]["Idempotency-Key"]) == (200, sent)


def test_mifoss_answer_to_a_write_shows_the_callers_key(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    answer = caller.mifos("notes", "POST", body=BODY, headers={"Idempotency-Key": "order-1"})
    assert (answer.status_code, answer["Idempotency-Key"]) == (200, "order-1")
    assert "Idempotency-Key" not in caller.mifos("notes", "POST", body=BODY)


def test_what_was_not_sent_is_accepted(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    mifos.behaviour = AWAY
    assert accept(caller).status_code == 202
    assert not only().perhaps_sent


def test_what_was_perhaps_sent_is_accepted_with_the_key_that_went_with_it(
    routes: Any, caller: Caller, mifos: FakeMifos
) -> None:
    mifos.behaviour = LOST
    assert accept(caller, headers={"Idempotency-Key": "k"}).status_code == 202
    assert only().perhaps_sent
    first = mifos.last["headers"]["Idempotency-Key"]
    mifos.behaviour = mifos_answer()
    due_now()
    assert send_all() == ["delivered"]
    assert mifos.last["headers"]["Idempotency-Key"] == first


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_an_answer_of_mifos_is_passed_on(routes: Any, caller: Caller, mifos: FakeMifos, status: int) -> None:
    mifos.behaviour = mifos_answer(status)
    assert accept(caller).status_code == status
    assert not DeferredRequest.objects.exists()


def test_wait_0_is_accepted_without_a_call(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    answer = accept(caller, headers={"Prefer": "respond-async, wait=0"})
    assert (answer.status_code, answer["Preference-Applied"], mifos.calls) == (202, "respond-async, wait=0", [])


@pytest.mark.parametrize(
    ("target", "method"),
    [("notes", "POST"), ("clients/1", "PUT"), ("clients", "PATCH"), ("loans/5?command=approve", "POST")],
)
def test_where_it_is_not_enabled_the_503_stays(
    routes: Any, caller: Caller, mifos: FakeMifos, target: str, method: str
) -> None:
    open_circuit(mifos, method.lower())
    answer = accept(caller, target, method)
    assert (answer.status_code, answer.json()["code"], "Retry-After" in answer) == (503, "SERVICE_UNAVAILABLE", True)
    assert not DeferredRequest.objects.exists()


def test_nobody_gets_a_202_who_has_not_asked(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    assert caller.mifos("clients", "POST", body=BODY).status_code == 503


def test_a_route_can_defer_for_all(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    routes({"POST clients": Deferred(automatic=True, ttl=60)})
    open_circuit(mifos)
    answer = caller.mifos("clients", "POST", body=BODY)
    assert (answer.status_code, "Preference-Applied" in answer) == (202, False)
    assert only().expires_at - only().created_at == timedelta(seconds=60)


@pytest.mark.parametrize(
    "target", ["loans/5?command=approve", "loans/5?command=Approve", "loans/5?x=1&command=approve"]
)
def test_an_approval_is_deferred_by_its_name_alone(routes: Any, caller: Caller, mifos: FakeMifos, target: str) -> None:
    open_circuit(mifos)
    assert accept(caller, target).status_code == 503
    assert accept(caller, "loans/5?command=disburse").status_code == 202
    DeferredRequest.objects.all().delete()
    routes(["POST loans/*?command=approve"])
    assert accept(caller, "loans/5?command=approve").status_code == 202
    assert accept(caller, "loans/6?command=disburse").status_code == 503
    assert accept(caller, "loans/6?command=approve&command=disburse").status_code == 503


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("staff", {}),
        ("clients/1/documents", {}),
        ("makercheckers/5", {}),
        ("clients", {"content_type": "multipart/form-data; boundary=x"}),
    ],
)
def test_what_mifos_would_do_twice_is_not_deferred(
    routes: Any, caller: Caller, mifos: FakeMifos, target: str, more: dict[str, Any]
) -> None:
    routes(["POST *"])
    open_circuit(mifos)
    assert accept(caller, target, **more).status_code == 503
    routes({"POST *": Deferred(safe=True)})
    assert accept(caller, target, **more).status_code == 202


def test_a_read_in_posts_clothing_is_no_write(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    routes(["POST *"])
    open_circuit(mifos)
    assert accept(caller, "loans?command=calculateLoanSchedule").status_code == 503


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_same_key_answers_the_same_request(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    first, again = (accept(caller, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (again.status_code, again["Location"]) == (202, first["Location"])
    directly = caller.mifos("clients", "POST", body=BODY, headers={"Idempotency-Key": "k"})
    assert (directly.status_code, directly["Location"]) == (202, first["Location"])
    assert DeferredRequest.objects.count() == 1


def test_a_key_of_ours_is_one_too(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    first = accept(caller)
    again = accept(caller, headers={"Idempotency-Key": first["Idempotency-Key"]})
    assert again["Location"] == first["Location"]
    other = accept(caller, headers={"Idempotency-Key": first["Idempotency-Key"]}, body=b"{}")
    assert other.status_code == 422


@pytest.mark.parametrize("is_open", [True, False])
def test_a_key_stands_for_one_body(routes: Any, caller: Caller, mifos: FakeMifos, is_open: bool) -> None:
    if is_open:
        open_circuit(mifos)
    assert accept(caller, headers={"Idempotency-Key": "k"}).status_code == (202 if is_open else 200)
    sent = len(mifos.calls)
    other = accept(caller, headers={"Idempotency-Key": "k"}, body=b'{"name": "Ravi"}')
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert "Idempotency-Key" not in other.headers  # there is nothing to repeat by it
    assert (other.json()["sent"], len(mifos.calls)) == (False, sent)


def test_a_direct_write_with_a_key_goes_to_mifos_each_time(caller: Caller, mifos: FakeMifos) -> None:
    for _ in range(2):
        assert caller.mifos("clients", "POST", body=BODY, headers={"Idempotency-Key": "k"}).status_code == 200
    assert len({call["headers"]["Idempotency-Key"] for call in mifos.calls}) == 1
    assert UsedKey.objects.count() == 1


def test_others_may_use_the_same_key(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    other = Caller(tokens.issue("bank", maker=True))
    first = accept(caller, headers={"Idempotency-Key": "k"})
    second = accept(other, headers={"Idempotency-Key": "k"}, body=b"{}")
    assert (second.status_code, second["Location"] != first["Location"]) == (202, True)
    assert other.call("GET", first["Location"]).status_code == 404


@pytest.mark.parametrize("how", [{"Prefer": "respond-async, wait=0"}, {"Prefer": "return=minimal"}])
def test_a_key_that_another_tenant_has_used_in_this_namespace_is_not_answered_by_its_request(
    routes: Any, caller: Caller, mifos: FakeMifos, settings: Any, how: dict[str, str]
) -> None:
    """Or the second tenant's write would be accepted and never sent."""
    settings.BREAKER = {**getattr(settings, "BREAKER", {}), "NAMESPACE": "shared"}
    first = accept(caller, headers={"Prefer": "respond-async, wait=0", "Idempotency-Key": "k"})
    assert first.status_code == 202
    settings.MIFOS = {**settings.MIFOS, "TENANT_ID": "other"}
    answer = accept(caller, headers={**how, "Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert "tenant" in answer.json()["message"]


def test_where_tenants_share_a_namespace_neither_waits_for_the_other(
    routes: Any, caller: Caller, mifos: FakeMifos, settings: Any
) -> None:
    settings.BREAKER = {**getattr(settings, "BREAKER", {}), "NAMESPACE": "shared"}
    assert accept(caller, "loans/5/charges", headers={"Prefer": "respond-async, wait=0"}).status_code == 202
    settings.MIFOS = {**settings.MIFOS, "TENANT_ID": "other"}
    assert caller.mifos("loans/5/charges", "POST", body=BODY).status_code == 200
    later = accept(caller, "loans/5/charges", headers={"Prefer": "respond-async, wait=0"})
    assert (later.status_code, later.json()["position"]) == (202, 1)
    due_now()
    first = DeferredRequest.objects.earliest("pk")
    DeferredRequest.objects.filter(pk=first.pk).update(status="replaying")
    assert send_all() == ["delivered"]
    for status in ("unknown", "queued"):
        DeferredRequest.objects.filter(pk=first.pk).update(status=status)
        with pytest.raises(NotPossible, match="another MIFOS or tenant"):
            desk.retry(first.pk)


def test_in_python_an_error_has_the_key_to_repeat_the_write_by(
    routes: Any, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
) -> None:
    mifos.behaviour = LOST
    with monkeypatch.context() as patched:
        patched.setattr(intake, "_accept", gone)
        with pytest.raises(MifosTimeout) as raised:
            maker.post("clients", json={"name": "Asha"}, deferred=True)
    sent = mifos.last["headers"]["Idempotency-Key"]
    mifos.behaviour = mifos_answer()
    answer = maker.post("clients", json={"name": "Asha"}, idempotency_key=raised.value.idempotency_key)
    assert mifos.last["headers"]["Idempotency-Key"] == sent
    assert answer.headers["Idempotency-Key"] == raised.value.idempotency_key


def test_in_python_an_answer_has_the_key_to_repeat_the_write_by(routes: Any, mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(500)
    answer = maker.post("clients", json={"name": "Asha"}, deferred=True)
    sent = mifos.last["headers"]["Idempotency-Key"]
    maker.post("clients", json={"name": "Asha"}, idempotency_key=answer.headers["Idempotency-Key"])
    assert (answer.status_code, mifos.last["headers"]["Idempotency-Key"]) == (500, sent)


def test_one_call_in_python_has_one_key(routes: Any, mifos: FakeMifos) -> None:
    with pytest.raises(InvalidCall, match="one key"):
        maker.post("clients", json={}, headers={"Idempotency-Key": "a", "idempotency-key": "a"})


def test_a_key_in_the_headers_of_a_call_in_python_is_the_same_key(routes: Any, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    answers: list[Any] = [
        maker.post("clients", json={"name": "Asha"}, deferred=True, **key)
        for key in ({"idempotency_key": "k"}, {"headers": {"Idempotency-Key": "k"}})
    ]
    assert [answer.json()["idempotencyKey"] for answer in answers] == ["k", "k"]
    assert DeferredRequest.objects.count() == 1


def test_in_python_too(routes: Any, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    answer: Any = maker.post("clients", json={"name": "Asha"}, deferred=True, idempotency_key="k")
    assert (answer.status_code, answer.provenance) == (202, "deferred")
    with pytest.raises(IdempotencyKeyReused) as reused:
        maker.post("clients", json={"name": "Ravi"}, deferred=True, idempotency_key="k")
    assert reused.value.idempotency_key is None  # nothing to repeat it by
    with pytest.raises(ServiceUnavailable):
        maker.post("clients", json={"name": "Ravi"})


# -- order -------------------------------------------------------------------------------------------------------------


def test_writes_to_one_resource_keep_their_order(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    first = accept(caller, "loans/5?command=disburse")
    registry.circuits["MIFOS-Maker-post"].close()
    second = accept(caller, "loans/05/transactions?command=repayment")
    assert (second.status_code, second.json()["position"], second.json()["orderKey"]) == (202, 2, "loans/5")
    directly = caller.mifos("loans/5/charges", "POST", body=BODY)
    assert (directly.status_code, directly.json()["code"]) == (409, "DEFERRED_AHEAD")
    assert directly["Location"] == first["Location"]
    assert caller.mifos("loans/6/charges", "POST", body=BODY).status_code == 200
    assert send_all() == ["delivered"]  # one of an order at a time
    assert send_all() == ["delivered"]
    assert [call["target"] for call in mifos.calls[-2:]] == [
        "loans/5?command=disburse",
        "loans/05/transactions?command=repayment",
    ]
    assert caller.mifos("loans/5/charges", "POST", body=BODY).status_code == 200


def test_an_order_of_the_callers_own(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    first = accept(caller, "clients", headers={"X-Order-Key": "family-7"})
    second = accept(caller, "loans/5/charges", headers={"X-Order-Key": "family-7"})
    assert [one.json()["position"] for one in (first, second)] == [1, 2]
    other = accept(Caller(tokens.issue("bank", maker=True)), "clients", headers={"X-Order-Key": "family-7"})
    assert other.json()["position"] == 1
    wrong = accept(caller, headers={"X-Order-Key": "x" * 256})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "INVALID_ORDER_KEY")


def test_direct_writes_may_pass_where_the_settings_say_so(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    routes(DEFERRED_LET_DIRECT_PASS=True)
    open_circuit(mifos)
    accept(caller, "loans/5/charges")
    registry.circuits["MIFOS-Maker-post"].close()
    assert caller.mifos("loans/5/charges", "POST", body=BODY).status_code == 200


def test_in_python_what_is_ahead_is_raised(routes: Any, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    maker.post("loans/5/charges", json={}, deferred=True)
    with pytest.raises(DeferredAhead):
        maker.post("loans/5/charges", json={})


def test_a_bad_end_holds_up_its_order_until_it_is_released(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    first, second = (accept(caller, "loans/5/charges") for _ in range(2))
    registry.circuits["MIFOS-Maker-post"].close()
    mifos.behaviour = mifos_answer(400, {"userMessageGlobalisationCode": "validation.msg"})
    assert send_all() == ["rejected"]
    mifos.behaviour = mifos_answer()
    assert send_all() == []
    told = caller.call("GET", first["Location"]).json()
    assert told["response"] == {"status": 400, "body": {"userMessageGlobalisationCode": "validation.msg"}}
    (attempt,) = told["attempts"]
    assert (attempt["outcome"], attempt["status"], attempt["error"]) == ("rejected", 400, "validation.msg")
    desk.release(DeferredRequest.objects.get(uid=told["id"]).pk)
    assert send_all() == ["delivered"]
    assert caller.call("GET", second["Location"]).json()["status"] == "delivered"


# -- the database's part ----------------------------------------------------------------------------------------------


def gone(*args: Any, **more: Any) -> Any:
    raise OperationalError("the connection broke off")


def breaking(*, is_committed: bool, times: int) -> Any:
    """Django's transactions, the first of which break off at their end."""
    left, whole = [times], transaction.atomic

    class RolledBack(Exception):
        pass

    @contextlib.contextmanager
    def atomic() -> Iterator[None]:
        left[0] -= 1
        with contextlib.suppress(RolledBack), whole():
            yield
            if left[0] >= 0 and not is_committed:
                raise RolledBack
        if left[0] >= 0:
            gone()

    return SimpleNamespace(atomic=atomic)


@pytest.mark.django_db(transaction=True)
class TestABrokenConnection:
    """Between the 202 and the row nothing may be left to guess."""

    def test_what_was_rolled_back_was_not_accepted(
        self, routes: Any, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(desk, "position", gone)
        answer = accept(caller, headers={"Prefer": "respond-async, wait=0"})
        assert (answer.status_code, answer.json()["code"], answer.json()["sent"]) == (503, "OUTBOX_UNAVAILABLE", False)
        assert not DeferredRequest.objects.exists()

    def test_a_rejected_call_stays_one(
        self, routes: Any, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_circuit(mifos)
        monkeypatch.setattr(desk, "position", gone)
        assert accept(caller).json()["code"] == "SERVICE_UNAVAILABLE"

    @pytest.mark.parametrize("is_committed", [True, False])
    def test_after_a_broken_commit_it_is_accepted_once(
        self, routes: Any, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch, is_committed: bool
    ) -> None:
        monkeypatch.setattr(intake, "transaction", breaking(is_committed=is_committed, times=1))
        answer = accept(caller, headers={"Prefer": "respond-async, wait=0"})
        assert (answer.status_code, answer.json()["id"]) == (202, str(only().uid))

    @pytest.mark.parametrize("is_open", [True, False])
    @pytest.mark.parametrize("is_committed", [True, False])
    def test_what_nobody_can_tell_is_said_with_the_key_to_repeat_it_by(
        self,
        routes: Any,
        caller: Caller,
        mifos: FakeMifos,
        monkeypatch: pytest.MonkeyPatch,
        is_open: bool,
        is_committed: bool,
    ) -> None:
        if is_open:
            open_circuit(mifos)
        with monkeypatch.context() as patched:
            patched.setattr(intake, "transaction", breaking(is_committed=is_committed, times=2))
            answer = accept(caller, headers={} if is_open else {"Prefer": "respond-async, wait=0"})
        told = answer.json()
        assert (answer.status_code, told["code"], told["sent"]) == (503, "ACCEPTANCE_UNKNOWN", "unknown")
        key = answer["Idempotency-Key"]
        again = accept(caller, headers={"Prefer": "respond-async, wait=0", "Idempotency-Key": key})
        assert (again.status_code, again["Idempotency-Key"]) == (202, key)
        assert DeferredRequest.objects.count() == 1


def test_keys_are_not_looked_up_while_the_database_is_away(
    caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(UsedKey.objects, "filter", gone)
    assert caller.mifos("clients", "POST", body=BODY, headers={"Idempotency-Key": "k"}).status_code == 200
    assert "Keys that were used cannot be looked up" in caplog.text


def test_a_database_that_hangs_takes_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mifos_gateway.outbox.turnstile.PATIENCE", 0.01)
    door = Turnstile()
    with contextlib.ExitStack() as inside:
        for _ in range(PLACES):
            inside.enter_context(door)
        for _ in range(2):  # the second at once
            with pytest.raises(OperationalError), door:
                pass


def test_a_key_is_remembered_as_long_as_its_request(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    accept(caller, headers={"Idempotency-Key": "k"})
    caller.mifos("notes", "POST", body=BODY, headers={"Idempotency-Key": "k"})
    assert UsedKey.objects.count() == 2
    desk.purge(clock.now() + timedelta(days=8))
    assert UsedKey.objects.count() == DeferredRequest.objects.count() == 1
    assert accept(caller, headers={"Idempotency-Key": "k"}, body=b"{}").status_code == 422


# -- cancel and retry --------------------------------------------------------------------------------------------------


def test_a_caller_cancels(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    first, second = (accept(caller, "loans/5/charges") for _ in range(2))
    registry.circuits["MIFOS-Maker-post"].close()
    answer = caller.call("DELETE", first["Location"])
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert send_all() == ["delivered"]
    late = caller.call("DELETE", second["Location"])
    assert (late.status_code, late.json()["code"]) == (409, "DEFERRED_STATE")


def test_what_is_being_sent_cannot_be_cancelled(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    location = accept(caller)["Location"]
    assert delivery.lease(clock.now(), limit=1, breakers=["MIFOS-Maker-post"])
    assert caller.call("DELETE", location).status_code == 409


def test_a_burnt_key_asks_for_a_new_one(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    location = accept(caller)["Location"]
    registry.circuits["MIFOS-Maker-post"].close()
    mifos.behaviour = mifos_answer(500, headers={"x-served-from-cache": "true"})
    assert send_all() == ["unknown"]
    burnt = mifos.last["headers"]["Idempotency-Key"]
    mifos.behaviour = mifos_answer()
    refused = caller.call("POST", f"{location}/retry", b"{}")
    assert (refused.status_code, refused.json()["code"]) == (409, "KEY_BURNT")
    assert caller.call("POST", f"{location}/retry", b'{"newKey": true}').json()["status"] == "queued"
    assert send_all() == ["delivered"]
    assert mifos.last["headers"]["Idempotency-Key"] != burnt


def test_what_was_being_sent_is_queued_again_a_while_after_its_call_has_ended(
    routes: Any, caller: Caller, mifos: FakeMifos
) -> None:
    routes(DEFERRED_GRACE=3)
    open_circuit(mifos)
    accept(caller)
    began = clock.now()
    assert delivery.lease(began, limit=1, breakers=["MIFOS-Maker-post"])
    ends = timedelta(seconds=delivery.timeout_of("MIFOS-Maker-post") + 3)
    assert delivery.recover(began + ends) == 0
    assert delivery.recover(began + ends + timedelta(seconds=0.1)) == 1
    assert (only().status, only().perhaps_sent) == ("queued", True)


@pytest.mark.parametrize("body", [b'{"newkey": true}', b'{"newKey": "yes"}', b"[]"])
def test_a_retry_that_cannot_be_read_is_refused(routes: Any, caller: Caller, mifos: FakeMifos, body: bytes) -> None:
    open_circuit(mifos)
    location = accept(caller)["Location"]
    assert caller.call("POST", f"{location}/retry", body).status_code == 400


def test_a_long_list_takes_few_queries(
    routes: Any, caller: Caller, mifos: FakeMifos, django_assert_max_num_queries: Any
) -> None:
    open_circuit(mifos)
    for _ in range(9):
        accept(caller, "loans/5/charges")
    caller.call("GET", "/api/v1/deferred-requests")  # the token is known now
    with django_assert_max_num_queries(3):
        found = caller.call("GET", "/api/v1/deferred-requests").json()["results"]
    assert [one["position"] for one in found] == [*range(9, 0, -1)]


def test_lists_are_the_consumers_own(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    accept(caller, "clients")
    accept(caller, "loans/5/charges")
    accept(Caller(tokens.issue("bank", maker=True)), "clients")
    found = caller.call("GET", "/api/v1/deferred-requests?status=queued&client=maker&since=1h").json()
    assert (found["count"], [one["path"] for one in found["results"]]) == (2, ["loans/5/charges", "clients"])
    assert caller.call("GET", "/api/v1/deferred-requests?status=delivered").json()["count"] == 0
    wrong = caller.call("GET", "/api/v1/deferred-requests?status=quued")
    assert (wrong.status_code, "quued" in wrong.json()["message"]) == (400, True)
