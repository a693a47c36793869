"""The threads of a process: what each does, what it survives, and how it ends. Real threads, a store in memory."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from breaker.engine import events
from breaker.engine import sync as sync_module
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.lost_acts import LostActs
from breaker.engine.stores.base import StoreError
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.sync import PATIENCE, Sync
from breaker.engine.window import total
from breaker.testing import Clock, fail, succeed
from tests.programs import wait_for


class Process:
    """What one process has: its threads over a store, and a breaker that was called once."""

    def __init__(self, store: MemoryStore, **traits: Any) -> None:
        self.told: list[Any] = []
        self.sync = Sync(store, tell=self.told.append, **traits)
        self.breaker = SharedCircuitBreaker("x", sync=self.sync)
        succeed(self.breaker)
        wait_for(lambda: self.sync.sharing, "the shared state is followed")

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.told if type(event) is kind]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: int(time.time() * 1000))


@pytest.fixture
def process(store: MemoryStore) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(**traits: Any) -> Process:
        made.append(Process(store, **traits))
        return made[-1]

    yield make
    for one in made:
        one.sync.close()


def trip(breaker: SharedCircuitBreaker) -> None:
    """Fail until it opens."""
    for _ in range(9):
        if breaker.current_state == "closed":
            fail(breaker)
    assert breaker.current_state == "open"


def own_threads(sync: Sync) -> list[threading.Thread]:
    threads = [sync._beating, sync.ear._thread, sync.courier._thread]
    return [thread for thread in threads if thread is not None]


def test_three_daemon_threads_serve_a_process(process: Any) -> None:
    threads = own_threads(process().sync)
    assert [(one.name, one.daemon) for one in threads] == [
        ("breaker-beat", True),
        ("breaker-ear", True),
        ("breaker-courier", True),
    ]


def test_they_end_when_it_is_closed(process: Any) -> None:
    sync = process().sync
    threads = own_threads(sync)
    sync.close()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


def test_what_was_counted_is_sent_when_it_is_closed(process: Any, store: MemoryStore) -> None:
    one = process()
    succeed(one.breaker, 4)
    one.sync.close()
    one.sync.close()  # a second time does nothing
    assert total(store.load(["x"], windows={}).records["x"].tallies).successes == 5


def test_news_reach_another_process(process: Any) -> None:
    first, second = process(), process()
    trip(first.breaker)
    wait_for(lambda: second.breaker.current_state == "open", "the second has heard", seconds=2)


def test_the_unsent_successes_of_another_process_are_waited_for(process: Any) -> None:
    first, second = process(), process()
    succeed(second.breaker, 30)
    fail(first.breaker, 9)
    assert first.breaker.current_state == "closed"


def test_the_look_at_others_before_opening_is_given_twenty_milliseconds(
    process: Any, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    poll = store.poll

    def noted(call: Any, **given: Any) -> Any:
        waits.append(given["seconds"])
        return poll(call, **given)

    monkeypatch.setattr(store, "poll", noted)
    first, _ = process(), process()
    trip(first.breaker)
    assert set(waits) == {0.02}


def test_an_ear_that_cannot_hear_says_that_the_store_is_lost(
    process: Any, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = process()

    def gone(*args: Any, **more: Any) -> Any:
        raise StoreError("no news")

    monkeypatch.setattr(store, "listen", gone)
    wait_for(lambda: one.of(events.StoreLost), "the loss is told", seconds=2)
    assert one.of(events.StoreLost)[0] == events.StoreLost("no news")


def test_an_ear_lives_on_over_a_fault_of_its_own(
    process: Any, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = process()
    monkeypatch.setattr(store, "listen", lambda *args, **more: 1 / 0)
    wait_for(lambda: "breaker ear failed" in caplog.text, "the fault is logged", seconds=2)
    assert one.sync.ear.alive
    assert one.sync.sharing


def test_a_beat_lives_on_over_a_fault_of_its_own(process: Any, caplog: pytest.LogCaptureFixture) -> None:
    one = process()
    one.sync._wants_success = lambda: 1 / 0
    wait_for(lambda: "breaker beat failed" in caplog.text, "the fault is logged", seconds=2)
    assert one.sync._beating.is_alive()


def test_a_beat_that_has_died_is_started_anew_by_a_call(process: Any) -> None:
    sync = (one := process()).sync
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    sync._beating, sync.beat_at = dead, float("-inf")
    succeed(one.breaker)
    assert sync._beating is not dead
    assert sync._beating.is_alive()


def test_a_beat_that_is_only_late_is_not_started_twice(process: Any) -> None:
    sync = (one := process()).sync
    beating, sync.beat_at = sync._beating, float("-inf")
    succeed(one.breaker)
    assert sync._beating is beating


def test_a_closed_process_starts_nothing(process: Any) -> None:
    sync = (one := process()).sync
    threads = own_threads(sync)
    sync.close()
    for thread in threads:
        thread.join(5)
    sync.beat_at = float("-inf")
    succeed(one.breaker)
    assert not any(thread.is_alive() for thread in own_threads(sync))


def test_the_first_call_waits_a_moment_for_the_shared_state(store: MemoryStore, process: Any) -> None:
    trip(process().breaker)
    sync = Sync(store)
    breaker = SharedCircuitBreaker("x", sync=sync)
    sync.revive(patience=5)
    assert breaker.current_state == "open"
    sync.close()


async def test_an_async_failure_is_judged_by_the_courier(process: Any) -> None:
    one = process()

    async def boom() -> None:
        raise ConnectionError

    for _ in range(4):  # of five calls
        with pytest.raises(ConnectionError):
            await one.breaker.call_async(boom)
    assert one.breaker.current_state == "open"


def test_the_first_call_waits_no_longer_than_it_was_told(store: MemoryStore) -> None:
    waited: list[float | None] = []
    for shared, patience in ((store, None), (store, 5), (None, None)):
        sync = Sync(shared)
        sync._first_contact.wait = waited.append  # type: ignore[assignment]
        sync.revive(patience=patience)
        first = len(waited)
        sync.beat_at = float("-inf")
        sync.revive(patience=patience)  # its beat lives
        assert len(waited) == first
        sync.close()
    assert waited == [PATIENCE, 5]


def test_a_beat_that_failed_comes_again(process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "HEARTBEAT", 0.02)
    one, failed = process(), threading.Event()

    def fault() -> bool:
        one.sync._wants_success = lambda: False
        failed.set()
        raise ZeroDivisionError

    one.sync._wants_success = fault
    assert failed.wait(5)
    monkeypatch.setattr(sync_module, "HEARTBEAT", 1.0)
    before = one.sync.beat_at
    wait_for(lambda: one.sync.beat_at > before, "it beats again", seconds=2)


def test_an_ear_looks_every_quarter_of_a_second_whether_its_store_still_holds(
    process: Any, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, asked, heard = process(), [], threading.Event()
    listen = store.listen

    def watched(cursor: str, *, seconds: float) -> Any:
        asked.append(seconds)
        heard.set()
        return listen(cursor, seconds=seconds)

    monkeypatch.setattr(store, "listen", watched)
    assert heard.wait(5)
    assert asked[0] == 0.25
    one.sync.close()


def test_an_ear_whose_store_is_away_ends_when_its_process_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> Any:
        raise StoreError("gone")

    away = MemoryStore(lambda: 0)
    monkeypatch.setattr(away, "push", gone)
    sync = Sync(away)
    sync.revive(patience=5)
    sync.close()
    assert sync.ear._thread is not None
    sync.ear._thread.join(5)
    assert not sync.ear.alive


def test_what_operators_said_is_looked_up_in_a_thread_of_its_own(process: Any, store: MemoryStore) -> None:
    by: list[tuple[str, list[str]]] = []
    process(on_lost_data=lambda names: by.append((threading.current_thread().name, names)))
    store._empty()
    wait_for(lambda: by, "it is looked up", seconds=5)
    assert by == [("breaker-look-up", ["x"])]


def test_a_process_that_shares_with_nobody_has_nothing_to_send_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync = Sync(None)
    succeed(SharedCircuitBreaker("x", sync=sync))
    monkeypatch.setattr(sync.courier, "carry", lambda work: pytest.fail("carried"))
    sync.close()


def test_a_circuit_of_a_process_without_threads_yet_can_be_turned_by_hand() -> None:
    assert SharedCircuitBreaker("x", sync=Sync(None)).open() is True


def test_a_fault_that_stays_is_not_told_without_end(
    process: Any, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = process()

    def fault(*args: Any, **more: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(one.sync, "_wants_success", fault)
    monkeypatch.setattr(store, "listen", fault)
    wait_for(lambda: {"breaker beat failed", "breaker ear failed"} <= {*caplog.messages}, "both have failed")
    one.sync._wake.set()
    time.sleep(0.5)
    assert len(caplog.records) < 10


def test_a_listener_that_ends_its_thread_ends_none_of_ours(process: Any) -> None:
    one = process()
    one.sync._tell = lambda event: sys.exit() if type(event) is events.Transitioned else None
    trip(one.breaker)
    assert one.sync.courier.carry(lambda: 7).result(5) == 7


def test_what_is_lost_during_a_look_up_is_looked_up_again() -> None:
    clock, looked_up = Clock(), []

    def look_up(names: Any) -> None:
        looked_up.append([*names])
        if len(looked_up) == 1:
            lost.of(["x"])

    lost = LostActs(look_up, monotonic=clock, thread=False)
    lost.of(["x"])
    for _ in range(3):
        lost.seek()
        clock.advance(5)
    assert looked_up == [["x"], ["x"]]
