"""The one path of every call."""

import logging
import os
import threading
import time
from typing import Any

import pytest
import requests

from breaker import queries
from breaker.engine.events import Labels
from mifos_gateway import guard
from mifos_gateway.bulkhead import Bulkhead
from mifos_gateway.errors import CredentialsRejected, GatewayError, MifosTimeout, MifosUnavailable
from mifos_gateway.guard import Call
from mifos_gateway.refusals import ServiceUnavailable
from tests.mifos_gateway.conftest import FakeMifos, mifos_answer


def call(method: str = "GET", user: guard.User = "maker") -> requests.Response:
    return guard.current().call(Call(user, method, "clients"))


def stats(name: str = "MIFOS-Maker-get") -> dict[str, Any]:
    entry = next(entry for entry in queries.status().entries if entry.name == name)
    found: dict[str, Any] = entry.as_dict()["stats"]
    return found


def test_there_are_twelve_breakers(breakers: dict[tuple[str, str], Any]) -> None:
    verbs = ("get", "post", "put", "patch", "delete", "request")
    assert [breaker.name for breaker in breakers.values()] == [
        f"MIFOS-{user}-{verb}" for user in ("Maker", "Checker") for verb in verbs
    ]


def test_the_twelve_are_those_that_health_judges(breakers: dict[tuple[str, str], Any]) -> None:
    assert {entry.name for entry in queries.status().own} == {breaker.name for breaker in breakers.values()}


def test_a_breaker_bears_its_labels(breakers: dict[tuple[str, str], Any]) -> None:
    assert breakers["checker", "put"].labels == Labels(service="MIFOS", group="checker", key="put")


def test_a_breakers_options_come_from_the_settings(breakers: dict[tuple[str, str], Any], settings: Any) -> None:
    from breaker.registry import registry

    registry.forget()
    settings.BREAKER = {
        "DEFAULTS": {"timeout": 7},
        "BREAKERS": {"MIFOS-Maker-post": {"timeout": 60}, "checker": {"reset_timeout": 9}},
    }
    made = guard.make_breakers()

    policies = [made[which].policy for which in (("maker", "get"), ("maker", "post"), ("checker", "get"))]
    assert [(policy.timeout, policy.reset_timeout) for policy in policies] == [(7, 60), (60, 60), (7, 9)]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("GET", "MIFOS-Maker-get"),
        ("POST", "MIFOS-Maker-post"),
        ("PUT", "MIFOS-Maker-put"),
        ("PATCH", "MIFOS-Maker-patch"),
        ("DELETE", "MIFOS-Maker-delete"),
        ("HEAD", "MIFOS-Maker-request"),
        ("OPTIONS", "MIFOS-Maker-request"),
    ],
)
def test_a_method_has_its_breaker(mifos: FakeMifos, method: str, name: str) -> None:
    call(method)

    assert stats(name)["successes"] == 1


def test_the_breakers_timeout_bounds_the_call(mifos: FakeMifos) -> None:
    call()

    assert mifos.last["timeout"] == 30.0


def test_an_error_answer_is_returned_and_counted(mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(500)

    assert call().status_code == 500
    assert stats()["failures"] == 1


@pytest.mark.parametrize(
    ("error", "counted"), [(MifosUnavailable("refused", sent=False), "failures"), (MifosTimeout("late"), "timeouts")]
)
def test_an_error_is_raised_and_counted(mifos: FakeMifos, error: GatewayError, counted: str) -> None:
    mifos.behaviour = error

    with pytest.raises(type(error)):
        call()
    assert stats()[counted] == 1


def open_circuit(mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(500)
    for _ in range(5):
        call()


def test_an_open_circuit_rejects_without_a_call(mifos: FakeMifos) -> None:
    open_circuit(mifos)

    with pytest.raises(ServiceUnavailable) as raised:
        call()
    assert len(mifos.calls) == 5
    assert (raised.value.code, raised.value.sent, raised.value.breaker) == (
        "SERVICE_UNAVAILABLE",
        False,
        "MIFOS-Maker-get",
    )
    assert 55 <= raised.value.retry_after <= 60


def test_another_verb_and_user_go_on(mifos: FakeMifos) -> None:
    open_circuit(mifos)
    mifos.behaviour = mifos_answer()

    assert [call("POST").status_code, call("GET", "checker").status_code] == [200, 200]


class Hanging:
    """Holds calls until it is let go."""

    def __init__(self, mifos: FakeMifos, calls: int) -> None:
        self.go, self.there = threading.Event(), threading.Semaphore(0)
        mifos.behaviour = self
        self.threads = [threading.Thread(target=call) for _ in range(calls)]
        for thread in self.threads:
            thread.start()
        for _ in self.threads:
            assert self.there.acquire(timeout=5)

    def __call__(self) -> requests.Response:
        self.there.release()
        assert self.go.wait(5)
        return mifos_answer()

    def end(self) -> None:
        self.go.set()
        for thread in self.threads:
            thread.join(5)


def test_beyond_the_bulkhead_a_call_is_refused_at_once(mifos: FakeMifos) -> None:
    hanging = Hanging(mifos, calls=4)
    try:
        with pytest.raises(ServiceUnavailable) as raised:
            call()
    finally:
        hanging.end()

    assert (raised.value.retry_after, raised.value.reason, len(mifos.calls)) == (1, "bulkhead", 4)
    assert (stats()["rejects"], stats()["failures"], stats()["fallbacks"]) == (1, 0, 1)


def test_nobody_waits_for_a_place() -> None:
    bulkhead = Bulkhead(1)
    bulkhead.enter()
    waits = []

    for _ in range(5):
        started = time.perf_counter()
        assert not bulkhead.enter()
        waits.append(time.perf_counter() - started)
    assert min(waits) < 0.1  # a busy machine delays one of them, or two


def test_one_bulkhead_serves_all_verbs_of_a_user_and_no_other(mifos: FakeMifos) -> None:
    hanging = Hanging(mifos, calls=4)
    mifos.behaviour = mifos_answer()
    try:
        with pytest.raises(ServiceUnavailable):
            call("POST")
        assert call("GET", "checker").status_code == 200
    finally:
        hanging.end()


def test_places_are_free_again_after_the_calls(mifos: FakeMifos) -> None:
    Hanging(mifos, calls=4).end()
    mifos.behaviour = mifos_answer()

    assert [call().status_code for _ in range(8)] == [200] * 8


def test_a_full_bulkhead_of_an_open_circuit_says_when_that_may_close(mifos: FakeMifos) -> None:
    hanging = Hanging(mifos, calls=4)
    guard.current()._breakers["maker", "get"].open()
    try:
        with pytest.raises(ServiceUnavailable) as raised:
            call()
    finally:
        hanging.end()

    assert raised.value.retry_after > 50


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_all_places(mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_current", guard.current())
    bulkhead = guard.current()._bulkheads["maker"]
    while bulkhead.enter():
        pass
    pid = os.fork()
    if pid == 0:
        os._exit(0 if all(bulkhead.enter() for _ in range(4)) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_mifoss_401_means_our_user_and_is_no_failure(mifos: FakeMifos, caplog: pytest.LogCaptureFixture) -> None:
    mifos.behaviour = mifos_answer(401)

    with caplog.at_level(logging.ERROR, logger="gateway"), pytest.raises(CredentialsRejected):
        call()
    assert stats()["successes"] == 1
    assert "'test-maker'" in caplog.text
    assert "'default'" in caplog.text
    assert "test-maker-password" not in caplog.text
