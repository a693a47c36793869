"""What is told of calls, to whom, and how much of it while everything fails."""

from __future__ import annotations

import logging
from typing import Any

import pybreaker
import pytest

from breaker.engine import events
from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.events import Labels
from breaker.engine.policy import Policy
from breaker.engine.sync import Sync
from breaker.testing import Clock, Cluster, Failure, fail, rejected, succeed

LABELS = Labels(service="MIFOS", group="maker", key="get")


class Told:
    """A labelled breaker, and the events that were told of it."""

    def __init__(self, *, wants_success: bool = False, is_failure: Any = None, **options: Any) -> None:
        self.cluster = Cluster(0)
        self.cluster.workers = [self.cluster.worker(wants_success=wants_success)]
        self.breaker = SharedCircuitBreaker(
            "x", Policy(**options), sync=self.cluster.workers[0], labels=LABELS, is_failure=is_failure
        )
        self.cluster.beat()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.cluster.told if type(event) is kind]


def test_a_failure_is_told_with_its_error_and_duration() -> None:
    told, error = Told(), Failure("this one")

    def boom() -> None:
        told.cluster.clock.advance(0.5)
        raise error

    with pytest.raises(Failure):
        told.breaker.call(boom)
    assert told.of(events.Failed) == [events.Failed(breaker="x", labels=LABELS, error=error, seconds=0.5)]


def test_a_result_that_counts_as_a_failure_is_told() -> None:
    told = Told(is_failure=lambda result: result == 500)
    told.breaker.call(lambda: 500)
    assert told.of(events.Failed) == [events.Failed(breaker="x", labels=LABELS, error=None, result=500, seconds=0)]


def test_a_timeout_is_told_with_its_limit_and_duration() -> None:
    told = Told(timeout=5)
    told.breaker.call(told.cluster.clock.advance, 6)
    assert told.of(events.TimedOut) == [events.TimedOut(breaker="x", labels=LABELS, timeout=5, seconds=6)]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_success_is_told_to_who_wants_to_hear_of_it(wanted: bool) -> None:
    told = Told(wants_success=wanted)
    told.breaker.call(told.cluster.clock.advance, 0.5)
    expected = [events.Succeeded(breaker="x", labels=LABELS, seconds=0.5)] if wanted else []
    assert told.of(events.Succeeded) == expected


def test_nobody_is_told_of_successes_before_anybody_was_asked() -> None:
    told: list[Any] = []
    succeed(SharedCircuitBreaker("x", sync=Sync(None, monotonic=Clock(), threads=False, tell=told.append)))
    assert told == []


def test_a_rejection_is_told_with_its_reason() -> None:
    told = Told()
    fail(told.breaker, 5)
    rejected(told.breaker)
    assert told.of(events.Rejected) == [events.Rejected(breaker="x", labels=LABELS, reason="open")]


def test_a_transition_is_told_with_the_states_and_the_reason() -> None:
    told = Told()
    fail(told.breaker, 5)
    (event,) = told.of(events.Transitioned)
    assert (event.breaker, event.labels) == ("x", LABELS)
    assert (event.before.value, event.after.value, event.snapshot.state) == ("CLOSED", "OPEN", event.after)
    assert event.why == event.snapshot.why
    assert event.why["failures"] == 5


def test_an_opening_is_told_with_each_kind_of_error_behind_it_once() -> None:
    told = Told(reset_timeout=1)
    fail(told.breaker, 3)
    fail(told.breaker, 2, TimeoutError)
    told.cluster.advance(1)
    succeed(told.breaker)
    opened, *others = [event.why for event in told.of(events.Transitioned)]
    assert opened["errors"] == "Failure, timeout"
    assert [why.get("errors") for why in others] == [None, None]


def test_ten_failures_a_second_are_told_and_then_how_many_were_left_out() -> None:
    told = Told(volume_threshold=100)
    fail(told.breaker, 12)
    told.cluster.clock.advance(0.9)
    fail(told.breaker)
    told.cluster.clock.advance(0.1)
    fail(told.breaker, 2)
    assert [event.left_out for event in told.of(events.Failed)] == [0] * 10 + [3, 0]


def test_timeouts_and_failures_are_bounded_apart() -> None:
    told = Told(volume_threshold=100)
    fail(told.breaker, 11)
    fail(told.breaker, 11, TimeoutError)
    assert (len(told.of(events.Failed)), len(told.of(events.TimedOut))) == (10, 10)


def test_timeouts_that_were_left_out_are_told_with_the_next() -> None:
    told = Told(volume_threshold=100)
    fail(told.breaker, 12, TimeoutError)
    told.cluster.clock.advance(1)
    fail(told.breaker, 1, TimeoutError)
    assert told.of(events.TimedOut)[-1].left_out == 2


def test_a_fallback_is_counted_and_told_once_a_second() -> None:
    told = Told()
    for _ in range(3):
        told.breaker.count_fallback()
    told.cluster.clock.advance(1)
    told.breaker.count_fallback()
    assert told.of(events.FellBack) == [
        events.FellBack(breaker="x", labels=LABELS, left_out=left_out) for left_out in (0, 2)
    ]
    totals = told.breaker._own_totals()
    assert (totals.fallbacks, totals.fires) == (4, 0)


def test_a_fallback_that_fails_is_told_once_a_second_and_counts_as_nothing() -> None:
    told, error = Told(), Failure("the fallback's own")
    for _ in range(3):
        told.breaker.tell_fallback_failed(error)
    told.cluster.clock.advance(1)
    told.breaker.tell_fallback_failed(error)
    assert told.of(events.FallbackFailed) == [
        events.FallbackFailed(breaker="x", labels=LABELS, error=error, left_out=left_out) for left_out in (0, 2)
    ]
    totals = told.breaker._own_totals()
    assert (totals.fallbacks, totals.fires) == (0, 0)


def test_a_call_that_another_turned_away_counts_as_a_reject() -> None:
    told = Told()
    error = told.breaker.refuse("bulkhead")
    assert isinstance(error, CallRejected)
    assert str(error) == "x: call rejected (bulkhead); try again in 1 s"
    assert told.breaker._own_totals().rejects == 1
    assert told.of(events.Rejected) == [events.Rejected(breaker="x", labels=LABELS, reason="bulkhead")]


def test_a_call_that_another_turned_away_may_come_again_at_once_though_the_circuit_is_open() -> None:
    told = Told()
    fail(told.breaker, 5)
    assert told.breaker.refuse("bulkhead").retry_after == 1


def test_whoever_is_told_may_fail_and_the_call_does_not(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    told.breaker.sync._tell = lambda event: 1 / 0
    with pytest.raises(Failure):
        told.breaker.call(_raise)
    assert "a breaker's listener failed" in caplog.messages
    assert "ZeroDivisionError" in caplog.text


def test_a_log_that_fails_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    told.breaker.sync._tell = lambda event: 1 / 0
    monkeypatch.setattr(logging.Logger, "exception", lambda *args, **more: 1 / 0)
    with pytest.raises(Failure):
        told.breaker.call(_raise)


@pytest.mark.parametrize("name", ["service", "group", "key"])
def test_a_label_must_be_text(name: str) -> None:
    with pytest.raises(TypeError, match=f"label {name}=7: text is needed"):
        Labels(**{name: 7})  # type: ignore[arg-type]


def test_labels_without_a_word_are_empty() -> None:
    assert Labels().as_dict() == {"service": "", "group": "", "key": ""}


# -- pybreaker's listeners ---------------------------------------------------------------------------------------------


class Listener(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.heard.append(("before", cb.name, func, args, kwargs))

    def success(self, cb: Any) -> None:
        self.heard.append(("success", cb.name))

    def failure(self, cb: Any, exc: Any) -> None:
        self.heard.append(("failure", cb.name, exc))

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.heard.append(("change", cb.name, old_state.name, new_state.name))


@pytest.fixture
def listened() -> tuple[SharedCircuitBreaker, list[Any]]:
    listener = Listener()
    (breaker,) = Cluster().breakers()
    breaker.add_listener(listener)
    return breaker, listener.heard


def test_a_listener_hears_what_is_called_and_how_it_ends(listened: Any) -> None:
    breaker, heard = listened
    breaker.call(max, 1, 2, key=abs)
    assert heard == [("before", "x", max, (1, 2), {"key": abs}), ("success", "x")]


async def test_a_listener_hears_of_async_calls_too(listened: Any) -> None:
    breaker, heard = listened

    async def double(value: int, *, plus: int) -> int:
        return 2 * value + plus

    assert await breaker.call_async(double, 2, plus=1) == 5
    assert heard == [("before", "x", double, (2,), {"plus": 1}), ("success", "x")]


def test_a_listener_hears_of_guarded_blocks(listened: Any) -> None:
    breaker, heard = listened
    with breaker.calling():
        pass
    assert heard == [("before", "x", None, (), {}), ("success", "x")]


def test_a_listener_hears_the_error(listened: Any) -> None:
    breaker, heard = listened
    error = Failure()
    with pytest.raises(Failure):
        breaker.call(_raise, error)
    assert heard[-1] == ("failure", "x", error)


def test_a_listener_hears_of_each_change_once(listened: Any) -> None:
    breaker, heard = listened
    breaker.open()
    breaker.open()
    breaker.close()
    assert heard == [("change", "x", "closed", "open"), ("change", "x", "open", "closed")]


def test_a_listener_that_was_removed_hears_nothing() -> None:
    listener = Listener()
    (breaker,) = Cluster().breakers()
    breaker.add_listener(listener)
    breaker.remove_listener(listener)
    succeed(breaker)
    assert listener.heard == []


def test_listeners_may_be_given_at_once() -> None:
    listener = Listener()
    succeed(SharedCircuitBreaker("x", sync=Cluster().workers[0], listeners=[listener]))
    assert [one[0] for one in listener.heard] == ["before", "success"]


def _raise(error: Exception | None = None) -> None:
    raise error or Failure()


def test_a_listener_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    (breaker,) = Cluster().breakers()
    listener = Listener()
    listener.success = lambda cb: 1 / 0  # type: ignore[method-assign]
    breaker.add_listener(listener)
    succeed(breaker)
    assert "a breaker's listener failed" in caplog.messages
