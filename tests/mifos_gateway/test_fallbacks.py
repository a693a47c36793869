"""Calls to MIFOS that something else answers: asked for or configured, and never passed off as MIFOS's."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import requests
from rest_framework.response import Response as DrfResponse

from breaker import queries
from breaker.registry import create_circuit_breaker, registry
from mifos_gateway import checker, fallbacks, maker
from mifos_gateway.errors import GatewayError, InvalidCall, MifosFailed, MifosTimeout, MifosUnavailable
from mifos_gateway.fallbacks import Cached, Deferred, FailFast, Placeholder, fallback
from mifos_gateway.refusals import ServiceUnavailable
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer

EMPTY = Placeholder({"pageItems": []})
GONE = MifosUnavailable("It hung up.", sent="unknown")


def configure(settings: Any, **given: Any) -> None:
    settings.GATEWAY = {**getattr(settings, "GATEWAY", {}), "FALLBACKS": given["by"]}


def stats(name: str = "MIFOS-Maker-get") -> dict[str, Any]:
    found: dict[str, Any] = queries.status([name]).entries[0].as_dict()["stats"]
    return found


def open_circuit(mifos: FakeMifos) -> None:
    mifos.behaviour = GONE
    for _ in range(5):
        with pytest.raises(GatewayError):
            maker.get("clients", fallback=FailFast())
    assert registry.circuits["MIFOS-Maker-get"].current_state == "open"


def test_mifoss_own_answer_says_so(mifos: FakeMifos) -> None:
    answer: Any = maker.get("clients", fallback=EMPTY)
    assert (answer.provenance, answer.json()) == ("mifos", {"ok": True})
    assert fallbacks.HEADER not in answer.headers
    assert stats()["fallbacks"] == 0


@pytest.mark.parametrize(
    "behaviour", [GONE, MifosTimeout("It was too slow.", sent="unknown"), mifos_answer(503), mifos_answer(429)]
)
def test_a_failure_is_answered_and_counts_as_both(mifos: FakeMifos, behaviour: Any) -> None:
    mifos.behaviour = behaviour
    answer: Any = maker.get("clients", fallback=EMPTY)
    assert (answer.status_code, answer.json(), answer.provenance) == (200, {"pageItems": []}, "placeholder")
    assert answer.headers["X-Fallback"] == "placeholder"
    counted = stats()
    assert counted["failures"] + counted["timeouts"] == counted["fallbacks"] == 1


def test_a_reject_is_answered_and_counts_once(mifos: FakeMifos, caplog: pytest.LogCaptureFixture) -> None:
    open_circuit(mifos)
    caplog.clear()
    assert maker.get("clients", fallback=EMPTY).json() == {"pageItems": []}
    assert (stats()["rejects"], stats()["fallbacks"], len(mifos.calls)) == (1, 1, 5)
    assert [record.levelno for record in caplog.records if "answered by its fallback" in record.getMessage()] == [
        logging.WARNING
    ]


@pytest.mark.parametrize("status", [200, 400, 404, 409])
def test_what_is_no_failure_of_mifos_is_passed_on(mifos: FakeMifos, status: int) -> None:
    mifos.behaviour = mifos_answer(status)
    assert maker.get("clients", fallback=EMPTY).status_code == status


def test_a_fallback_for_rejects_alone_leaves_failures_as_they_are(mifos: FakeMifos) -> None:
    for_rejects = Placeholder([], failures=False)
    mifos.behaviour = mifos_answer(503, b"busy")
    assert maker.get("clients", fallback=for_rejects).content == b"busy"
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable) as raised:
        maker.get("clients", fallback=for_rejects)
    assert raised.value is GONE


def test_a_function_gets_the_call_and_what_went_wrong(mifos: FakeMifos) -> None:
    heard: list[Any] = []

    @fallback
    def own(call: Any, error: GatewayError) -> Any:
        heard.append((call.method, call.target, call.user, error))
        return mifos_answer(206, b"some")

    mifos.behaviour = mifos_answer(500)
    answer: Any = checker.get("clients?limit=1", fallback=FailFast() | own)
    assert (answer.status_code, answer.content, answer.provenance) == (206, b"some", "custom")
    ((method, target, user, error),) = heard
    assert (method, target, user) == ("GET", "clients?limit=1", "checker")
    assert isinstance(error, MifosFailed)
    assert error.answer.status_code == 500


@pytest.mark.parametrize("behaviour", [GONE, mifos_answer(500, b"as it was")])
def test_a_fallback_that_fails_hides_nothing(
    mifos: FakeMifos, behaviour: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(call: Any, error: Exception) -> Any:
        raise KeyError("its own") from error

    mifos.behaviour = behaviour
    if isinstance(behaviour, requests.Response):
        assert maker.get("clients", fallback=faulty).content == b"as it was"
    else:
        with pytest.raises(MifosUnavailable) as raised:
            maker.get("clients", fallback=faulty)
        assert raised.value is GONE
        assert isinstance(raised.value.__cause__, KeyError)
        assert raised.value.__cause__.__cause__ is None
    assert "MIFOS fallback failed: KeyError (in faulty, test_fallbacks.py" in caplog.text
    assert "its own" not in caplog.text
    assert stats()["fallbacks"] == 0


def test_a_reject_without_an_answer_is_the_reject(mifos: FakeMifos) -> None:
    open_circuit(mifos)
    with pytest.raises(ServiceUnavailable) as raised:
        maker.get("clients", fallback=FailFast() | FailFast())
    assert raised.value.retry_after >= 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_placeholder_says_that_something_was_written(mifos: FakeMifos, settings: Any, method: str) -> None:
    with pytest.raises(InvalidCall, match="would say that it was done"):
        maker.request(method, "clients", fallback=FailFast() | EMPTY)
    assert mifos.calls == []
    configure(settings, by={"* clients*": EMPTY})
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        maker.request(method, "clients")


def test_what_is_no_fallback_is_refused_before_anything_is_sent(mifos: FakeMifos) -> None:
    with pytest.raises(InvalidCall, match="is needed"):
        maker.get("clients", fallback="cached")
    assert mifos.calls == []


def test_a_function_that_only_logs_makes_nothing_look_done(mifos: FakeMifos) -> None:
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable) as raised:
        maker.post("loans", json={}, fallback=lambda call, error: None)
    assert raised.value is GONE


@pytest.mark.parametrize("broken", [requests.Response(), mifos_answer(99), DrfResponse({})])
def test_an_answer_that_cannot_go_out_is_none(mifos: FakeMifos, broken: Any) -> None:
    open_circuit(mifos)
    with pytest.raises(ServiceUnavailable) as raised:
        maker.get("clients", fallback=lambda: broken)
    assert raised.value.sent is False


def test_an_answer_that_many_share_is_marked_for_none(mifos: FakeMifos) -> None:
    shared = mifos_answer(200, b"kept")
    mifos.behaviour = GONE
    answer: Any = maker.get("clients", fallback=lambda: shared)
    assert (answer.content, answer.headers["X-Fallback"]) == (b"kept", "custom")
    assert fallbacks.HEADER not in shared.headers
    assert not hasattr(shared, "provenance")


def test_an_async_function_is_refused(mifos: FakeMifos) -> None:
    async def replica() -> int:
        return 1

    with pytest.raises(InvalidCall, match="async"):
        maker.get("clients", fallback=replica)


def test_what_mifos_says_of_fallbacks_is_not_believed(mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(200, headers={"X-Fallback": "cache"})
    assert fallbacks.HEADER not in maker.get("clients").headers


def test_a_placeholder_is_kept_by_no_cache(mifos: FakeMifos) -> None:
    mifos.behaviour = GONE
    assert maker.get("clients", fallback=EMPTY).headers["Cache-Control"] == "no-store"


# -- configured --------------------------------------------------------------------------------------------------------


def test_a_route_comes_before_its_breaker_and_a_caller_before_both(mifos: FakeMifos, settings: Any) -> None:
    by = {
        "MIFOS-Maker-get": Placeholder("breaker"),
        "GET offices*": Placeholder("offices"),
        "GET *": Placeholder("any"),
    }
    configure(settings, by=by)
    mifos.behaviour = GONE
    assert maker.get("v1/offices/1").json() == "offices"
    assert maker.get("clients").json() == "any"
    configure(settings, by={"MIFOS-Maker-get": Placeholder("breaker")})
    assert maker.get("clients").json() == "breaker"
    for nobodys in (checker, maker):
        with pytest.raises(MifosUnavailable):
            nobodys.get("clients", fallback=FailFast() if nobodys is maker else None)


def test_over_rest_the_header_says_whose_answer_it_is(
    mifos: FakeMifos, settings: Any, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    configure(settings, by={"GET offices*": EMPTY})
    mifos.behaviour = mifos_answer(200, headers={"Content-Type": "application/json", "X-Fallback": "cache"})
    assert "X-Fallback" not in Caller(token).mifos("offices").headers
    mifos.behaviour = GONE
    answer = Caller(token).mifos("offices")
    assert (answer.status_code, answer.json()) == (200, {"pageItems": []})
    assert (answer["X-Fallback"], answer["Content-Type"]) == ("placeholder", "application/json")
    assert "outcome=fallback" in caplog.text
    assert Caller(token).mifos("clients").status_code == 502
    open_circuit(mifos)
    assert Caller(token).mifos("offices")["X-Fallback"] == "placeholder"
    configure(settings, by={"GET offices*": lambda: 1 / 0})
    refused = Caller(token).mifos("offices")
    assert (refused.status_code, refused.json()["sent"]) == (503, False)


@pytest.mark.parametrize("strategy", [Cached(max_stale=60), Deferred()])
def test_what_knows_calls_to_mifos_leaves_a_function_to_the_next(
    strategy: Any, mifos: FakeMifos, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever guards a function by such a one alone gets that function's own error, and no other as its cause."""

    def fetch() -> int:
        raise ConnectionError("the ledger is away")

    with pytest.raises(ConnectionError) as raised:
        create_circuit_breaker(fetch, name="alone", fallback=strategy)()
    assert raised.value.__cause__ is None
    assert create_circuit_breaker(fetch, name="chained", fallback=strategy | Placeholder([]))() == []
    assert "fallback failed" not in caplog.text
