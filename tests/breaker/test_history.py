"""History: what happened and what was counted, stored once in the cluster whatever dies or is away meanwhile."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from hypothesis import given
from hypothesis import strategies as st

from breaker import conf, history, operations, recorder, timeline
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.machine import State
from breaker.engine.stores.base import Event, StoreError
from breaker.engine.sync import Sync
from breaker.engine.window import Totals
from breaker.models import BreakerEvent, HourSample, MinuteSample, Series
from breaker.queries import overview
from breaker.registry import create_circuit_breaker, registry
from breaker.testing import fail, rejected, succeed
from tests.breaker.conftest import House
from tests.programs import PostgresServer

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
START = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.fixture
def breaker(house: House) -> SharedCircuitBreaker:
    return create_circuit_breaker(name="x", reset_timeout=10).breaker


@pytest.fixture(autouse=True)
def _history(settings: Any) -> None:
    settings.BREAKER = {**settings.BREAKER, "HISTORY": True}


def record() -> None:
    recorder.record(registry.sync)


def told() -> list[tuple[str, ...]]:
    return [(e.kind, e.operation, e.from_state, e.to_state) for e in BreakerEvent.objects.order_by("at", "pk")]


def outage(house: House, breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    house.advance(10)
    succeed(breaker)
    house.beat()


# -- events ------------------------------------------------------------------------------------------------------------


def test_an_outage_is_three_events(house: House, breaker: SharedCircuitBreaker) -> None:
    house.advance(30)
    outage(house, breaker)
    record()
    assert told() == [
        ("transition", "", "CLOSED", "OPEN"),
        ("transition", "", "OPEN", "HALF_OPEN"),
        ("transition", "", "HALF_OPEN", "CLOSED"),
    ]
    opened, door, closed = BreakerEvent.objects.order_by("at", "pk")
    assert (opened.breaker, opened.source, opened.actor, opened.alone) == ("x", "breaker", "", False)
    assert (opened.counts["failures"], opened.counts["errors"]) == (5, "Failure")
    assert opened.duration_ms == pytest.approx(30_000, abs=1_000)
    assert door.duration_ms == pytest.approx(10_000, abs=300)
    assert closed.counts["trial"] == "success"


def test_an_act_is_one_event(house: House, breaker: SharedCircuitBreaker) -> None:
    operations.act(["x"], "open", actor="ann", source="admin", reason="upgrade", for_seconds=60)
    house.advance(61)
    record()
    assert told() == [("operation", "open", "CLOSED", "OPEN"), ("operation", "release", "OPEN", "CLOSED")]
    act, ended = BreakerEvent.objects.order_by("at", "pk")
    assert (act.actor, act.source, act.reason) == ("ann", "admin", "upgrade")
    assert (ended.actor, ended.source) == ("", "breaker")
    assert ended.duration_ms == pytest.approx(60_000, abs=500)


def test_a_disable_ends_with_an_enable(house: House, breaker: SharedCircuitBreaker) -> None:
    operations.act(["x"], "disable", actor="ann", source="api", reason="upgrade", for_seconds=60)
    house.advance(61)
    record()
    assert [(event.operation, event.actor) for event in timeline.events("x")][::-1] == [
        ("disable", "ann"),
        ("enable", ""),
    ]


def test_an_event_is_stored_once_however_often_it_is_read(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage(house, breaker)
    with monkeypatch.context() as dies:
        dies.setattr(house.store, "stored", lambda cursor: (_ for _ in ()).throw(StoreError("killed here")))
        for _ in range(2):
            with pytest.raises(StoreError):
                history.store_events(house.store)
    history.store_events(house.store)
    history.store_events(house.store)
    assert len(told()) == 3


def test_events_wait_for_the_database(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage(house, breaker)

    def away(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("away")

    with monkeypatch.context() as gone:
        gone.setattr(BreakerEvent.objects, "bulk_create", away)
        with pytest.raises(DatabaseError):
            record()
    house.advance(600)
    record()
    assert len(told()) == 3


def test_more_events_than_are_read_at_once(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "EVENTS_AT_ONCE", 2)
    for _ in range(3):
        outage(house, breaker)
    record()
    assert len(told()) == 9


@pytest.mark.parametrize(
    "said", [{"lasted": "long"}, {"lasted": [1]}, {"lasted": 10**30}, {"actor": 7}, {"why": ["errors"]}]
)
def test_an_event_that_makes_no_sense_holds_nothing_up(
    house: House,
    breaker: SharedCircuitBreaker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: dict[str, Any],
) -> None:
    spoil(house, monkeypatch, lambda event: dataclasses.replace(event, event={**event.event, **said}))
    outage(house, breaker)
    record()
    assert told() == [("transition", "", "CLOSED", "OPEN"), ("transition", "", "HALF_OPEN", "CLOSED")]
    assert caplog.text.count("is left out of its history") == 1


def test_an_event_of_no_time_holds_nothing_up(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(house, monkeypatch, lambda event: dataclasses.replace(event, at=10**18))
    outage(house, breaker)
    record()
    assert len(told()) == 2


def spoil(house: House, monkeypatch: pytest.MonkeyPatch, spoilt: Callable[[Event], Event]) -> None:
    """Have the second event of each portion read otherwise than it was written."""
    read = house.store.past

    def past(count: int) -> list[Event]:
        first, second, *more = read(count)
        return [first, spoilt(second), *more]

    monkeypatch.setattr(house.store, "past", past)


def test_an_actor_of_any_length_is_told(house: House, breaker: SharedCircuitBreaker) -> None:
    event = Event(cursor="1", name="x", rev="1", at=0, event={"kind": "operation", "actor": "a" * 201})
    assert len(history._event(event, alone=False).actor) == 200


def test_an_event_that_leaves_something_open_is_told(house: House, breaker: SharedCircuitBreaker) -> None:
    said = {"kind": "operation", "actor": None, "from": None, "to": None, "reason": None, "why": None}
    event = history._event(Event(cursor="1", name="x", rev="1", at=0, event=said), alone=False)
    assert (event.actor, event.from_state, event.to_state, event.reason, event.counts) == ("", "", "", "", {})


def test_what_a_process_did_alone_is_stored_and_marked(house: House, breaker: SharedCircuitBreaker) -> None:
    house.cable.cut = True
    house.beat()
    fail(breaker, 5)
    record()
    (event,) = BreakerEvent.objects.all()
    assert (event.to_state, event.alone) == ("OPEN", True)


def test_what_one_found_alone_and_all_took_over_is_of_all(house: House, breaker: SharedCircuitBreaker) -> None:
    theirs = SharedCircuitBreaker("x", sync=house.there)
    house.advance(1)
    house.cable.cut = True
    house.beat()
    fail(breaker, 5)
    house.advance(2)
    house.cable.cut = False
    house.advance(2)
    record()
    assert theirs.current_state == "open"
    assert sorted(BreakerEvent.objects.values_list("to_state", "alone")) == [("OPEN", False), ("OPEN", True)]
    now = timeline.now()
    assert timeline.spans("x", now - HOUR, now)[-1].state is State.OPEN


def test_a_write_whose_answer_was_lost_is_of_all(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = house.store.write

    def lost(given: Any) -> Any:
        write(given)
        raise StoreError("the answer was lost")

    with monkeypatch.context() as once:
        once.setattr(house.store, "write", lost)
        fail(breaker, 5)
    record()
    assert list(BreakerEvent.objects.values_list("to_state", "alone")) == [("OPEN", True)]
    house.advance(2)
    record()
    assert list(BreakerEvent.objects.values_list("to_state", "alone")) == [("OPEN", False)]


def test_one_process_at_a_time_stores(house: House, breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    assert house.there.shared is not None
    assert house.there.shared.claim("history", milliseconds=900)
    record()
    assert told() == []
    house.advance(1)
    record()
    assert len(told()) == 1


# -- minutes -----------------------------------------------------------------------------------------------------------


def minutes() -> list[tuple[str, int, int]]:
    rows = MinuteSample.objects.order_by("at", "series__breaker")
    return [(row.series.breaker, row.successes, row.failures) for row in rows]


def test_a_minute_is_stored_when_it_has_ended(house: House, breaker: SharedCircuitBreaker) -> None:
    theirs = SharedCircuitBreaker("x", sync=house.there)
    succeed(breaker, 3)
    fail(theirs, 2)
    house.beat()
    record()
    assert minutes() == []
    house.advance(63)
    record()
    assert minutes() == [("x", 3, 2)]
    row = MinuteSample.objects.get()
    assert row.at.second == 0
    assert sum(history.unpack(row.histogram).values()) == 5


def test_an_idle_breaker_costs_no_rows(house: House, breaker: SharedCircuitBreaker) -> None:
    create_circuit_breaker(name="idle")
    succeed(breaker)
    for _ in range(5):
        house.advance(60)
        record()
    assert [name for name, _, _ in minutes()] == ["x"]


def test_counts_that_come_late_are_put_into_their_minute(house: House, breaker: SharedCircuitBreaker) -> None:
    theirs = SharedCircuitBreaker("x", sync=house.there)
    succeed(breaker)
    succeed(theirs)
    house.here.beat()
    house.their_cable.cut = True
    house.advance(63)
    record()
    assert minutes() == [("x", 1, 0)]
    house.their_cable.cut = False
    house.advance(3)
    record()
    assert minutes() == [("x", 2, 0)]


def store_minute(successes: int) -> None:
    history._store_minute("e", START, {"x": Totals(successes=successes), "y": Totals(failures=1)})


def test_a_minute_that_holds_more_stays() -> None:
    """Who read earlier may write later, and a Redis that was restored from a dump holds less again."""
    for successes in (100, 600, 150):
        store_minute(successes)
    assert minutes() == [("x", 600, 0), ("y", 0, 1)]


def test_minutes_that_nobody_stores_do_not_fill_the_memory(alone: Sync) -> None:
    breaker = create_circuit_breaker(name="only").breaker
    for _ in range(200):
        succeed(breaker)
        alone.link.drain()
        alone.link.keep()
        alone.link._offset += 60_000
    assert len(alone.local.due_minutes()) <= 122


def test_a_redis_that_was_emptied_takes_nothing_back(house: House, breaker: SharedCircuitBreaker) -> None:
    succeed(breaker, 3)
    house.beat()
    recorder.recorder.catch_up()
    house.store._empty()
    house.beat()
    house.beat()
    succeed(breaker, 2)
    house.beat()
    now = timeline.now()
    points = timeline.history("x", now - HOUR, now + timedelta(minutes=1))
    assert sum(point.totals.successes for point in points) == 5
    assert Series.objects.count() == 2


def test_without_a_shared_store_a_process_keeps_its_own(alone: Any) -> None:
    breaker = create_circuit_breaker(name="only").breaker
    succeed(breaker, 2)
    fail(breaker, 3)
    now = timeline.now()
    points = timeline.history("only", now - HOUR, now + timedelta(minutes=1))
    assert sum(point.totals.successes for point in points) == 2
    assert sum(point.totals.failures for point in points) == 3
    (event,) = timeline.events("only")
    assert (event.to_state, event.alone) == ("OPEN", False)


# -- hours, and the end ------------------------------------------------------------------------------------------------


def sample(at: datetime, name: str = "x", **counts: Any) -> None:
    series, _ = Series.objects.get_or_create(namespace=conf.namespace(), breaker=name, store="s")
    MinuteSample.objects.create(series=series, at=at, **counts)


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def test_an_hour_is_the_sum_of_its_minutes() -> None:
    for minute in range(0, 60, 20):
        sample(START + timedelta(minutes=minute), successes=2, latency_us=5, histogram=history.pack({3: 1, 200: 1}))
    sample(START + HOUR, failures=1)
    history.roll_up(milliseconds(START + HOUR + timedelta(minutes=5)))
    (hour,) = HourSample.objects.all()
    assert (hour.at, hour.successes, hour.latency_us) == (START, 6, 15)
    assert history.unpack(hour.histogram) == {3: 3, 200: 3}
    assert not history.roll_up(milliseconds(START + HOUR + timedelta(minutes=5)))


def test_an_hour_is_summed_anew_when_a_minute_changes() -> None:
    sample(START, successes=2)
    later = milliseconds(START + 2 * HOUR)
    history.roll_up(later)
    MinuteSample.objects.update(successes=7, rolled=False)
    until = START + timedelta(hours=1)
    assert timeline.history("x", START, until, 3600)[0].totals.successes == 7  # before it is
    history.roll_up(later)
    assert HourSample.objects.get().successes == 7
    assert timeline.history("x", START, until, 3600)[0].totals.successes == 7


def test_a_minute_that_comes_while_its_hour_is_summed_is_summed_next(monkeypatch: pytest.MonkeyPatch) -> None:
    sample(START, successes=2)
    later = milliseconds(START + 2 * HOUR)
    write = history._upsert

    def upsert(*args: Any) -> None:
        write(*args)
        sample(START + timedelta(minutes=59), successes=5)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(history, "_upsert", upsert)
        history.roll_up(later)
    history.roll_up(later)
    assert HourSample.objects.get().successes == 7


def test_many_breakers_are_summed_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SERIES_AT_ONCE", 2)
    for number in range(5):
        sample(START, f"b{number}", successes=number)
    later = milliseconds(START + 2 * HOUR)
    assert [history.roll_up(later) for _ in range(4)] == [True, True, True, False]
    assert sorted(HourSample.objects.values_list("successes", flat=True)) == [0, 1, 2, 3, 4]


def test_what_is_old_is_dropped_in_steps(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "ROWS_AT_ONCE", 3)
    settings.BREAKER = {**settings.BREAKER, "HISTORY_MINUTE_DAYS": 2, "HISTORY_HOUR_DAYS": 4}
    for number in range(5):
        sample(START + timedelta(minutes=number), rolled=True)
    sample(START + timedelta(days=2), rolled=True)
    HourSample.objects.create(series=Series.objects.get(), at=START)
    BreakerEvent.objects.create(namespace=conf.namespace(), rev="1", breaker="x", at=START)
    now = milliseconds(START + timedelta(days=3))
    assert [history.prune(now) for _ in range(3)] == [3, 2, 0]
    assert MinuteSample.objects.get().at == START + timedelta(days=2)
    assert history.prune(milliseconds(START + timedelta(days=4, hours=2))) == 3
    assert not HourSample.objects.exists()
    assert not BreakerEvent.objects.exists()


@pytest.mark.parametrize("ahead", [HOUR, timedelta(days=4000)])
def test_a_shared_clock_that_is_ahead_drops_nothing(ahead: timedelta) -> None:
    now = datetime.now(UTC)
    sample(now - timedelta(days=29), rolled=True)
    recorder.tidy(milliseconds(now + ahead))
    assert MinuteSample.objects.exists()


def test_what_others_keep_in_the_same_database_stays(settings: Any) -> None:
    settings.BREAKER = {**settings.BREAKER, "HISTORY_MINUTE_DAYS": 1, "HISTORY_HOUR_DAYS": 1}
    theirs = Series.objects.create(namespace="theirs", breaker="x", store="s")
    MinuteSample.objects.create(series=theirs, at=START, rolled=True)
    HourSample.objects.create(series=theirs, at=START)
    sample(START, rolled=True)
    assert history.prune(milliseconds(START + timedelta(days=5))) == 1
    assert (MinuteSample.objects.get().series, HourSample.objects.get().series) == (theirs, theirs)


def test_series_are_pruned_in_turn_and_go_when_they_are_empty(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SERIES_AT_ONCE", 2)
    settings.BREAKER = {**settings.BREAKER, "HISTORY_MINUTE_DAYS": 1}
    for number in range(5):
        sample(START, f"b{number}", rolled=True)
    sample(START + timedelta(days=5), "b0")
    now = milliseconds(START + timedelta(days=5))
    assert sum(history.prune(now) for _ in range(3)) == 5
    assert Series.objects.get().breaker == "b0"


@given(st.dictionaries(st.integers(0, 1_200), st.integers(1, 10**9), max_size=60))
def test_a_histogram_is_packed_without_loss(histogram: dict[int, int]) -> None:
    assert history.unpack(history.pack(histogram)) == Counter(histogram)


@pytest.mark.parametrize(("what", "holds"), [("minute", "600"), ("hour", "100")])
def test_two_who_write_at_once_go_one_after_the_other(postgres: PostgresServer, what: str, holds: str) -> None:
    environ = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "DJANGO_DEBUG": "true"}
    environ |= {"DATABASE_URL": postgres.url, "BREAKER_NAMESPACE": "history"}
    words = [sys.executable, "-m", "tests.breaker.two_recorders", what]
    ran = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout.strip(), ran.stderr) == (holds, "")


# -- the recorder ------------------------------------------------------------------------------------------------------


def test_nobody_who_wants_no_history_gets_a_thread(settings: Any) -> None:
    settings.BREAKER = {**settings.BREAKER, "HISTORY": False}
    made = recorder.Recorder()
    made.start()
    assert made._thread is None


@pytest.mark.parametrize("error", [InterfaceError("connection already closed"), OperationalError("away")])
def test_it_is_said_once_that_history_waits(
    house: House,
    breaker: SharedCircuitBreaker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    made = recorder.Recorder()
    monkeypatch.setattr(recorder, "connection", SimpleNamespace(close=lambda: None))
    fail(breaker, 5)
    with monkeypatch.context() as away:
        away.setattr(history, "store_events", raising(error))
        assert not made._look(asked=True)
        assert not made._look(asked=True)
    assert caplog.text.count(f"history waits for the database ({type(error).__name__})") == 1
    assert made._look(asked=True)
    assert "history is stored again" in caplog.text


def test_a_store_that_answers_nonsense_is_told(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = recorder.Recorder()
    monkeypatch.setattr(house.store, "due_minutes", raising(StoreError("nonsense")))
    for _ in range(2):
        made._look(asked=True)
    assert caplog.text.count("history waits for the shared store") == 1


def test_a_late_answer_is_asked_for_again_at_once(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(breaker)
    house.advance(63)
    read, asked = house.store.minute, Counter[int]()

    def late(number: int) -> Any:
        asked[number] += 1
        if asked[number] == 1:
            raise StoreError("late")
        return read(number)

    monkeypatch.setattr(house.store, "minute", late)
    record()
    assert minutes() == [("x", 1, 0)]


def raising(error: Exception) -> Any:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fails


@pytest.fixture
def running(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[recorder.Recorder]:
    """A recorder with its thread."""
    monkeypatch.setattr(recorder, "EVERY", 60.0)
    monkeypatch.setattr(recorder, "PATIENCE", 0.3)
    made = recorder.Recorder()
    made.start()
    yield made
    house.here.close()
    monkeypatch.setattr(recorder, "AT_MOST_EVERY", 0.0)
    made.catch_up()
    assert made._thread is not None
    made._thread.join(5)


def test_readers_do_not_wait_for_a_database_that_hangs(
    running: recorder.Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, begun = threading.Event(), threading.Event()

    def hang(*args: Any, **kwargs: Any) -> None:
        begun.set()
        hangs.wait(5)

    monkeypatch.setattr(recorder, "record", hang)
    readers = [threading.Thread(target=running.catch_up) for _ in range(8)]
    before = time.monotonic()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert begun.is_set()
    assert time.monotonic() - before < 4  # their patience is a second, the database's is five
    hangs.set()


def test_readers_get_what_happened_up_to_now(running: recorder.Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bool] = []
    monkeypatch.setattr(recorder, "AT_MOST_EVERY", 0.0)
    monkeypatch.setattr(recorder, "record", lambda sync, *, asked: looks.append(asked))
    for number in range(3):
        running.catch_up()
        assert looks == [True] * (number + 1)


def test_readers_share_a_look(running: recorder.Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bool] = []
    monkeypatch.setattr(recorder, "AT_MOST_EVERY", 60.0)
    monkeypatch.setattr(recorder, "record", lambda sync, *, asked: looks.append(asked))
    for _ in range(3):
        running.catch_up()
    assert looks == [True]


def test_a_routine_look_is_not_enough_for_a_reader(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bool] = []
    looked = threading.Event()

    def look(sync: Sync, *, asked: bool) -> None:
        looks.append(asked)
        if looks.count(False) == 2:  # so that one is over
            looked.set()

    monkeypatch.setattr(recorder, "record", look)
    monkeypatch.setattr(recorder, "EVERY", 0.01)
    made = recorder.Recorder()
    made.start()
    assert looked.wait(5)
    made.catch_up()
    house.here.close()
    assert made._thread is not None
    made._thread.join(5)
    assert True in looks


def test_a_look_that_failed_is_not_enough_for_a_reader(
    running: recorder.Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []

    def look(sync: Sync, *, asked: bool) -> None:
        looks.append(asked)
        raise StoreError("late")

    monkeypatch.setattr(recorder, "record", look)
    for _ in range(2):
        running.catch_up()
    assert looks == [True, True]


def test_the_recorder_lives_on_whatever_fails(
    running: recorder.Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[bool] = []
    monkeypatch.setattr(recorder, "EVERY", 0.01)  # the rest after it
    with monkeypatch.context() as broken:
        broken.setattr(recorder, "close_old_connections", raising(SystemError("broken")))
        running.catch_up()
    monkeypatch.setattr(recorder, "record", lambda sync, *, asked: looks.append(asked))
    running.catch_up()
    assert True in looks
    assert "breaker history failed" in caplog.text


def test_readers_do_not_wait_for_what_is_old(running: recorder.Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    read, tidied = threading.Event(), []
    monkeypatch.setattr(recorder, "PATIENCE", 10.0)
    monkeypatch.setattr(recorder, "record", lambda sync, *, asked: True)
    monkeypatch.setattr(recorder, "tidy", lambda now: tidied.append(read.wait(2)))
    running.catch_up()
    read.set()
    monkeypatch.setattr(recorder, "AT_MOST_EVERY", 0.0)
    running.catch_up()
    assert tidied[0]


@pytest.mark.django_db(transaction=True)
def test_what_a_reader_rolls_back_is_stored_all_the_same(
    house: House, breaker: SharedCircuitBreaker, running: recorder.Recorder
) -> None:
    fail(breaker, 5)
    with transaction.atomic():
        running.catch_up()
        transaction.set_rollback(True)
    running.catch_up()
    assert len(told()) == 1


@pytest.mark.parametrize("rolls_back", [True, False])
def test_without_a_thread_nothing_is_stored_in_a_readers_transaction(
    house: House, breaker: SharedCircuitBreaker, rolls_back: bool
) -> None:
    fail(breaker, 5)
    with transaction.atomic():
        timeline.events("x")
        transaction.set_rollback(rolls_back)
    assert told() == []
    timeline.events("x")
    assert len(told()) == 1


# -- what an operator sees ---------------------------------------------------------------------------------------------


def test_the_overview_has_the_last_ten_minutes(house: House, breaker: SharedCircuitBreaker) -> None:
    succeed(breaker, 2)
    house.advance(60)
    fail(breaker, 1)
    house.beat()
    (first, second) = overview().recent["x"]
    assert (first.successes, second.failures) == (2, 1)
    assert second.at - first.at == timedelta(minutes=1)
    house.advance(11 * 60)
    assert overview().recent == {}


def test_minutes_that_have_settled_are_not_read_again(house: House, breaker: SharedCircuitBreaker) -> None:
    succeed(breaker)
    house.advance(300)
    asked: list[int] = []
    read = house.store.minutes
    house.store.minutes = lambda numbers: asked.append(len(numbers)) or read(numbers)  # type: ignore[method-assign,func-returns-value]
    for _ in range(2):
        assert [minute.successes for minute in overview().recent["x"]] == [1]
    assert asked == [11, 2]


def test_the_overview_knows_the_last_change(house: House, breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    change = overview().changes["x"]
    assert (change.what, change.actor) == ("OPEN", "")
    operations.act(["x"], "close", actor="ann", source="api", reason="a drill")
    change = overview().changes["x"]
    assert (change.what, change.actor, change.reason) == ("close", "ann", "a drill")


def test_the_overview_knows_who_guards_and_who_lags(house: House, breaker: SharedCircuitBreaker) -> None:
    house.advance(1)
    assert {worker.process for worker in overview().workers} == {house.here.process, house.there.process}
    house.their_cable.cut = True
    fail(breaker, 5)
    house.advance(3)
    behind = {worker.process: worker for worker in overview().workers}
    assert behind[house.there.process].behind > behind[house.here.process].behind == 0
    assert behind[house.there.process].age_ms > 2_000


# -- states over time --------------------------------------------------------------------------------------------------


def test_a_summary_counts_outages(house: House, breaker: SharedCircuitBreaker) -> None:
    house.advance(100)
    outage(house, breaker)
    house.advance(90)
    assert rejected(breaker) is False
    now = timeline.now()
    found = timeline.summary("x", now - timedelta(seconds=200), now)
    assert (found.openings, round(found.seconds_open)) == (1, 10)
    assert found.availability == pytest.approx(95, abs=0.2)
    assert found.longest_outage == found.mean_time_to_recovery == pytest.approx(10, abs=0.5)


def test_an_outage_that_lasts_has_not_recovered(house: House, breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    house.advance(5)
    now = timeline.now()
    found = timeline.summary("x", now - HOUR, now)
    assert (found.openings, found.mean_time_to_recovery) == (1, None)
    assert found.longest_outage == pytest.approx(5, abs=0.5)


def test_a_state_from_before_the_span_reaches_into_it(house: House, breaker: SharedCircuitBreaker) -> None:
    operations.act(["x"], "open", actor="ann", source="api", reason="a drill")
    house.advance(7_200)
    now = timeline.now()
    timeline.events()
    (span,) = timeline.spans("x", now - HOUR, now + HOUR)
    assert (span.state, span.seconds) == (State.OPEN, 3_600)
    points = timeline.history("x", now - HOUR, now)
    assert sum(point.seconds_open for point in points[1:-1]) == 60 * (len(points) - 2)


def moved(at: datetime, before: str, after: str) -> None:
    """An event, stored after those before it."""
    BreakerEvent.objects.create(
        namespace=conf.namespace(), rev=str(BreakerEvent.objects.count()), breaker="x", kind="transition",
        from_state=before, to_state=after, at=at, source="breaker",
    )  # fmt: skip


@pytest.mark.parametrize("since", [HOUR, timedelta(minutes=1, seconds=30), timedelta(0)])
def test_a_clock_that_was_set_back_leaves_the_order(since: timedelta) -> None:
    moved(START, "CLOSED", "OPEN")
    moved(START - timedelta(minutes=2), "OPEN", "HALF_OPEN")
    moved(START - timedelta(minutes=1), "HALF_OPEN", "CLOSED")
    moved(START - timedelta(seconds=30), "CLOSED", "OPEN")
    moved(START + timedelta(seconds=30), "OPEN", "CLOSED")
    found = timeline.spans("x", START - since, START + HOUR)
    assert found[-1].state is State.CLOSED
    assert sum(span.seconds for span in found if span.state is State.OPEN) in (30, 60)
    assert [span.until for span in found[:-1]] == [span.since for span in found[1:]]
    assert min(span.seconds for span in found) >= 0


@pytest.mark.parametrize("since", [START - HOUR, START, START + HOUR])
def test_a_clock_that_was_set_back_leaves_the_last_state(since: datetime) -> None:
    moved(START, "CLOSED", "OPEN")
    moved(START - timedelta(minutes=2), "OPEN", "CLOSED")
    assert timeline.spans("x", since, START + 2 * HOUR)[-1].state is State.CLOSED


def test_a_state_that_this_version_does_not_know_is_passed_over() -> None:
    moved(START, "CLOSED", "AJAR")
    assert [span.state for span in timeline.spans("x", START - HOUR, START + HOUR)] == [State.CLOSED]


def begin_anew(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes end, and one begins."""
    house.workers.clear()
    monkeypatch.setattr(registry, "_circuits", {})
    ahead = house.store._clock() / 1000 - 1_700_000_000.0  # of a worker's own clock
    monkeypatch.setattr(registry, "_sync", house.worker(store=house.cable, wall_ahead=ahead))
    house.workers.append(registry.sync)
    create_circuit_breaker(name="x", reset_timeout=10)


def test_a_state_that_was_lost_without_an_event_ends_where_the_next_began(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker, 5)
    record()
    house.advance(5)
    house.store._empty()
    begin_anew(house, monkeypatch)
    house.advance(3_600)
    now = timeline.now()
    found = timeline.summary("x", now - 2 * HOUR, now)
    assert (found.openings, found.seconds_open) == (1, pytest.approx(5, abs=1))


def test_a_process_that_follows_nobody_ends_no_state(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker, 5)
    record()
    house.advance(5)
    house.cable.cut = True
    begin_anew(house, monkeypatch)
    house.advance(5)
    now = timeline.now()
    assert timeline.spans("x", now - HOUR, now)[-1].state is State.OPEN
