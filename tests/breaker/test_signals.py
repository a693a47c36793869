"""Django's signals: what they say, once, and that no receiver harms a call or keeps it waiting."""

import functools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Model

from breaker import background, listeners, operations, signals
from breaker.background import Background
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.models import Breaker
from breaker.registry import Labels, create_circuit_breaker
from breaker.signals import BreakerSignal, call_failed, call_rejected, operator_acted, state_changed
from breaker.testing import Failure, fail, rejected, signals_sent, succeed
from tests.breaker.conftest import House

LABELS = Labels(service="Ledger", group="books", key="get")
ALL = (state_changed, call_rejected, call_failed, operator_acted)


class Inbox:
    """Receives every signal."""

    def __init__(self) -> None:
        self._came: list[dict[str, Any]] = []

    def __call__(self, signal: BreakerSignal, **said: Any) -> None:
        self._came.append({"signal": signal, "thread": threading.current_thread().name, **said})

    def of(self, signal: BreakerSignal) -> list[dict[str, Any]]:
        assert signals_sent()
        return [said for said in self._came if said["signal"] is signal]


@pytest.fixture
def connect() -> Iterator[Callable[[BreakerSignal, Callable[..., Any]], None]]:
    connected: list[tuple[BreakerSignal, Callable[..., Any]]] = []

    def connect(signal: BreakerSignal, receiver: Callable[..., Any]) -> None:
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)
    assert signals_sent()


Connect = Callable[[BreakerSignal, Callable[..., Any]], None]


@pytest.fixture
def inbox(connect: Connect) -> Inbox:
    made = Inbox()
    for signal in ALL:
        connect(signal, made)
    return made


@pytest.fixture
def breaker() -> SharedCircuitBreaker:
    return create_circuit_breaker(name="x", labels=LABELS).breaker


def said_by(received: dict[str, Any], *besides: str) -> dict[str, Any]:
    return {name: value for name, value in received.items() if name not in ("signal", "thread", "sender", *besides)}


# -- what each says ----------------------------------------------------------------------------------------------------


def test_a_transition_is_sent_with_its_evidence(breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    succeed(breaker, 2)
    fail(breaker, 3)
    (received,) = inbox.of(state_changed)
    assert received["sender"] is Breaker
    assert said_by(received) == {
        "breaker": "x",
        "labels": {"service": "Ledger", "group": "books", "key": "get"},
        "from_state": "CLOSED",
        "to_state": "OPEN",
        "counts": {"successes": 2, "failures": 3, "timeouts": 0, "errorRate": 60.0}
        | {"processes": 1, "hosts": 1, "errors": "Failure"},
        "alone": False,
        "at": datetime.fromtimestamp(breaker.snapshot.since / 1000, UTC),
    }


def test_the_trial_that_closed_is_among_the_evidence(house: House, breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    fail(breaker, 5)
    house.advance(60)
    succeed(breaker)
    changes = inbox.of(state_changed)
    assert [(said["from_state"], said["to_state"]) for said in changes] == [
        ("CLOSED", "OPEN"),
        ("OPEN", "HALF_OPEN"),
        ("HALF_OPEN", "CLOSED"),
    ]
    assert changes[-1]["counts"]["trial"] == "success"


def test_a_failure_is_sent_in_a_word(house: House, breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    def slowly() -> None:
        house.clock.advance(0.25)
        raise Failure("Asha Rao, born 1990")

    with pytest.raises(Failure):
        breaker.call(slowly)
    (received,) = inbox.of(call_failed)
    assert said_by(received, "at", "labels") == {
        "breaker": "x",
        "outcome": "failure",
        "reason": "Failure",
        "seconds": 0.25,
        "left_out": 0,
    }


def test_a_timeout_is_a_failed_call_too(breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    fail(breaker, error=TimeoutError)
    (received,) = inbox.of(call_failed)
    assert (received["outcome"], received["reason"]) == ("timeout", "timeout")


def test_what_a_signal_says_of_a_call_is_plain(breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    """It waits in a queue: an error there would hold on to the call's frames and all that they know."""
    fail(breaker)
    (received,) = inbox.of(call_failed)
    assert {type(value) for value in said_by(received).values()} == {str, dict, float, int, datetime}


def test_a_reject_is_sent_with_its_reason(house: House, breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    fail(breaker, 5)
    for _ in range(100):
        assert rejected(breaker)
    house.clock.advance(1)
    assert rejected(breaker)
    sent = [(said["reason"], said["left_out"]) for said in inbox.of(call_rejected)]
    assert sent == [("open", 0), ("open", 99)]


def test_a_call_is_sent_with_the_clusters_time(house: House, breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    fail(breaker)
    (received,) = inbox.of(call_failed)
    assert received["at"] == datetime.fromtimestamp(house.here.now() / 1000, UTC)


@pytest.mark.django_db
def test_an_act_is_sent_with_who_and_why(breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    (done,) = operations.act(["x"], "open", actor="ada", source="admin", reason="upgrade", for_seconds=60)
    (received,) = inbox.of(operator_acted)
    assert said_by(received, "labels") == {
        "breaker": "x",
        "operation": "open",
        "from_state": "CLOSED",
        "to_state": "OPEN",
        "actor": "ada",
        "source": "admin",
        "reason": "upgrade",
        "at": done.row.applied_at,
        "until": done.row.applied_at + timedelta(seconds=60),  # type: ignore[operator]
    }
    assert inbox.of(state_changed) == []


@pytest.mark.django_db
def test_an_act_on_a_breaker_of_another_process_has_its_labels(house: House, inbox: Inbox) -> None:
    house.elsewhere("theirs", labels=LABELS)
    operations.act(["theirs"], "disable", actor="ada", source="command", reason="upgrade")
    (received,) = inbox.of(operator_acted)
    assert received["labels"]["service"] == "Ledger"


@pytest.mark.django_db
def test_an_act_that_ends_is_sent_as_the_breakers_own(
    house: House, breaker: SharedCircuitBreaker, inbox: Inbox
) -> None:
    operations.act(["x"], "open", actor="ada", source="admin", reason="upgrade", for_seconds=60)
    house.advance(61)
    _, ended = inbox.of(operator_acted)
    names = ("operation", "from_state", "to_state", "actor", "source", "until")
    assert [ended[name] for name in names] == ["release", "OPEN", "CLOSED", "", "breaker", None]
    assert ended["at"] == datetime.fromtimestamp(breaker.snapshot.since / 1000, UTC)


@pytest.mark.django_db
def test_an_act_that_failed_is_not_sent(house: House, breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    house.cable.cut = True
    (done,) = operations.act(["x"], "open", actor="ada", source="admin", reason="upgrade")
    assert done.error
    assert inbox.of(operator_acted) == []


# -- once --------------------------------------------------------------------------------------------------------------


def test_what_another_process_turned_is_not_sent_here(house: House, inbox: Inbox) -> None:
    here = create_circuit_breaker(name="x").breaker
    fail(SharedCircuitBreaker("x", sync=house.there), 5)
    house.beat()
    assert (here.current_state, inbox.of(state_changed)) == ("open", [])


def test_what_a_process_turned_alone_is_marked(house: House, breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    house.lose_store()
    fail(breaker, 5)
    (received,) = inbox.of(state_changed)
    assert received["alone"] is True
    assert "alone" not in received["counts"]


# -- receivers that fail or are slow -----------------------------------------------------------------------------------


def test_signals_are_sent_by_threads_of_their_own(breaker: SharedCircuitBreaker, inbox: Inbox) -> None:
    fail(breaker, 5)
    assert {said["thread"] for said in inbox.of(state_changed)} == {"breaker-signals"}
    assert {said["thread"] for said in inbox.of(call_failed)} == {"breaker-call-signals"}


def test_a_failing_receiver_is_logged_by_its_kind_and_place(
    breaker: SharedCircuitBreaker, inbox: Inbox, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**said: Any) -> None:
        raise RuntimeError("Asha Rao, born 1990")

    connect(call_failed, broken)
    fail(breaker)
    assert len(inbox.of(call_failed)) == 1
    (record,) = [record for record in caplog.records if "receiver failed" in record.getMessage()]
    assert (record.name, record.levelname) == ("breaker", "ERROR")
    assert "broken: RuntimeError (in broken, test_signals.py:" in record.getMessage()
    assert not [record for record in caplog.records if "Asha" in f"{record.getMessage()}{record.exc_info}"]


def test_a_receiver_without_a_name_may_fail_too(
    breaker: SharedCircuitBreaker, inbox: Inbox, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broken = functools.partial(_raise, RuntimeError)
    connect(call_failed, broken)
    fail(breaker)
    assert len(inbox.of(call_failed)) == 1
    assert "a signal's receiver failed: partial: RuntimeError" in caplog.text


def test_an_async_receiver_is_awaited(breaker: SharedCircuitBreaker, connect: Connect) -> None:
    heard: list[str] = []

    async def hear(breaker: str, **said: Any) -> None:
        heard.append(breaker)

    connect(call_failed, hear)
    fail(breaker)
    assert signals_sent()
    assert heard == ["x"]


def test_a_receiver_that_ends_its_thread_ends_no_signal(
    breaker: SharedCircuitBreaker, inbox: Inbox, connect: Connect
) -> None:
    def leave(**said: Any) -> None:
        raise SystemExit

    connect(call_failed, leave)
    fail(breaker, 2)
    assert len(inbox.of(call_failed)) == 2


def test_no_call_waits_for_a_receiver(breaker: SharedCircuitBreaker, connect: Connect) -> None:
    let_go, entered = threading.Event(), threading.Event()

    def hang(**said: Any) -> None:
        entered.set()
        assert let_go.wait(60)

    for signal in (call_failed, call_rejected, state_changed):
        connect(signal, hang)
    try:
        fail(breaker, 5)  # returns while the receiver hangs, or never
        assert rejected(breaker)
        assert entered.wait(10)
        assert not background.finish(0)
    finally:
        let_go.set()


def test_who_is_slow_about_calls_does_not_keep_back_a_change(breaker: SharedCircuitBreaker, connect: Connect) -> None:
    let_go, changed = threading.Event(), threading.Event()

    def hang(**said: Any) -> None:
        assert let_go.wait(60)

    def note(**said: Any) -> None:
        changed.set()

    connect(call_failed, hang)
    connect(state_changed, note)
    try:
        fail(breaker, 5)
        assert changed.wait(10)
    finally:
        let_go.set()


def test_nothing_is_made_of_what_nobody_receives(
    breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(Background, "put", lambda self, work: made.append(work))
    fail(breaker, 5)
    assert rejected(breaker)
    assert made == []


def test_a_receiver_of_another_sender_is_nobody(breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(Background, "put", lambda self, work: made.append(work))
    other = Inbox()
    call_failed.connect(other, sender=Model)
    fail(breaker)
    call_failed.disconnect(other, sender=Model)
    assert made == []


def test_the_app_listens_once() -> None:
    assert listeners._listeners.count(signals.hear) == 1


# -- the thread --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    let_go, entered, done = threading.Event(), threading.Event(), []

    def first() -> None:
        entered.set()
        assert let_go.wait(60)

    queue = Background("test", room=2)
    queue.put(first)
    assert entered.wait(10)
    for number in range(5):
        queue.put(functools.partial(done.append, number))
    assert [record.getMessage() for record in caplog.records] == [
        "test: 2 wait for one that takes its time; more are left out"
    ]
    let_go.set()
    assert queue.finish(10)
    assert done == [0, 1]
    assert caplog.records[-1].getMessage() == "test: caught up; 3 were left out"


def test_a_queue_is_not_finished_while_its_last_work_runs() -> None:
    let_go, entered = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert let_go.wait(60)

    queue = Background("test")
    queue.put(work)
    assert entered.wait(10)
    assert not queue.finish(0)
    let_go.set()
    assert queue.finish(10)


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_the_threads_connections_are_looked_after_as_a_requests_are(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(background, "close_old_connections", lambda: happened.append("connections"))

    def work() -> None:
        happened.append("work")
        if error is not None:
            raise error

    queue = Background("test")
    queue.put(work)
    assert queue.finish(10)
    assert happened == ["connections", "work", "connections"]


def test_an_ending_process_does_first_what_waits() -> None:
    program = """if True:
        import time
        from breaker.background import Background

        queue = Background("test")
        queue.put(lambda: time.sleep(0.3))
        queue.put(lambda: print("done", flush=True))
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "done\n"


def test_a_forked_child_sends_its_own(tmp_path: Any) -> None:
    let_go, entered = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert let_go.wait(60)

    queue = Background("test")
    queue.put(work)
    assert entered.wait(10)
    queue.put(lambda: (tmp_path / "of the parent").touch())
    child = os.fork()
    if child == 0:
        queue.put(lambda: (tmp_path / "of the child").touch())
        os._exit(0 if queue.finish(10) and not (tmp_path / "of the parent").exists() else 1)
    _, status = os.waitpid(child, 0)
    let_go.set()
    assert queue.finish(10)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "of the child").exists()


def _raise(error: type[Exception], **said: Any) -> None:
    raise error


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
