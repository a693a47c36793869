"""What one process does beat by beat: how often it asks the store, what it does alone, and what it tells of that."""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from breaker.engine import desk, events, machine
from breaker.engine import ear as ear_module
from breaker.engine import sync as sync_module
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.courier import Courier
from breaker.engine.events import Labels
from breaker.engine.haste import haste
from breaker.engine.machine import Act, Action, State
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Call, Push, StoreError, Write
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.sync import PATIENCE, Sync
from breaker.testing import Clock, Cluster, SharedMemory, fail, rejected, states, succeed

LABELS = Labels(service="MIFOS", group="maker", key="get")


class Counting(SharedMemory):
    """A store that counts what it is asked, and can be away."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked: collections.Counter[str] = collections.Counter()
        self.away = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("push", "write", "lease", "load", "register", "claim", "cursor"):
            object.__getattribute__(self, "asked")[name] += 1
            if object.__getattribute__(self, "away"):
                raise StoreError("away")
        return super().__getattribute__(name)


class Beats:
    """Workers over a counting store."""

    def __init__(self, workers: int = 1, *, wants_success: bool = False, **options: Any) -> None:
        clock = Clock()
        self.store = Counting(clock)
        self.cluster = Cluster(0, store=self.store, clock=clock)
        self.cluster.workers = [self.cluster.worker(wants_success=wants_success) for _ in range(workers)]
        self.syncs = self.cluster.workers
        self.breakers = [SharedCircuitBreaker("x", Policy(**options), sync=one, labels=LABELS) for one in self.syncs]
        self.cluster.beat()

    def asks(self, seconds: float) -> collections.Counter[str]:
        """What the store is asked in so many seconds."""
        self.store.asked.clear()
        self.cluster.advance(seconds)
        return collections.Counter(self.store.asked)

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.cluster.told if type(event) is kind]

    def lose(self) -> None:
        self.store.away = True
        self.cluster.advance(1.25)
        assert not any(sync.sharing for sync in self.syncs)

    def find(self) -> None:
        self.store.away = False
        self.cluster.advance(1)
        assert all(sync.sharing for sync in self.syncs)


# -- how often the store is asked --------------------------------------------------------------------------------------


def test_an_idle_process_says_once_a_second_that_it_lives() -> None:
    asked = Beats().asks(10)
    assert asked["push"] in (10, 11)
    assert asked.total() == asked["push"]


def test_a_process_says_how_far_it_has_followed() -> None:
    beats = Beats(2)
    fail(beats.breakers[0], 5)
    beats.cluster.advance(2)
    assert beats.store.load([]).seq == 2
    assert [worker.behind for worker in beats.store.heartbeats()] == [0, 0]
    beats.syncs[1].ear.set(beats.store.cursor())  # which does not hear of what comes now
    beats.store.write(Write(name="y", expected=None, after=machine.newborn(0), deadline=10**15))
    beats.syncs[0].listen(0)
    for sync in beats.syncs:
        sync.flush()
    behind = {worker.process: worker.behind for worker in beats.store.heartbeats()}
    assert [behind[sync.process] for sync in beats.syncs] == [0, 1]


def test_a_process_that_has_counted_pushes_with_its_next_beat() -> None:
    beats = Beats()
    beats.cluster.advance(1)
    succeed(beats.breakers[0])
    assert beats.asks(0.25)["push"] == 1


def test_a_process_with_a_trial_renews_it_with_every_beat() -> None:
    beats = Beats(reset_timeout=1)
    fail(beats.breakers[0], 5)
    beats.cluster.advance(1)
    beats.breakers[0].admit()
    assert beats.asks(1)["push"] == 4


def test_breakers_are_registered_once_a_minute() -> None:
    beats = Beats()
    assert beats.asks(180)["register"] == 3


def test_a_lost_store_is_looked_for_four_times_a_second() -> None:
    beats = Beats()
    beats.lose()
    assert beats.asks(2) == {"push": 8}


@pytest.mark.parametrize(("wanted", "ticks"), [(True, 4), (False, 0)])
def test_a_tick_is_told_every_five_seconds_once_in_the_cluster(wanted: bool, ticks: int) -> None:
    beats = Beats(3, wants_success=wanted)
    beats.cluster.told.clear()
    beats.cluster.advance(20)
    assert len(beats.told(events.Tick)) == ticks


# -- how long a beat rests ---------------------------------------------------------------------------------------------


def test_an_idle_process_beats_four_times_a_second_and_a_busy_one_ten_times() -> None:
    beats = Beats()
    sync = beats.syncs[0]
    assert sync._pause() == pytest.approx(0.25)
    succeed(beats.breakers[0])
    sync.link.drain()
    assert sync._pause() == pytest.approx(0.1)
    sync.link.flush()
    beats.lose()
    assert sync._pause() == pytest.approx(0.1)


def test_a_beat_comes_in_time_for_the_half_open_door() -> None:
    beats = Beats(reset_timeout=1)
    fail(beats.breakers[0], 5)
    beats.syncs[0].link.flush()
    assert beats.syncs[0]._pause() == pytest.approx(0.25)
    beats.cluster.clock.advance(0.95)
    assert beats.syncs[0]._pause() == pytest.approx(0.052)


# -- members -----------------------------------------------------------------------------------------------------------


def test_a_breaker_that_is_made_later_is_known_and_follows_at_once() -> None:
    beats = Beats(2)
    first = SharedCircuitBreaker("late", sync=beats.syncs[0])
    assert beats.store.load().records["late"].registration is not None
    fail(first, 5)
    second = SharedCircuitBreaker("late", sync=beats.syncs[1])
    assert second.current_state == "open"


def test_a_breaker_that_is_made_while_the_store_goes_is_known_once_it_is_back() -> None:
    beats = Beats()
    beats.store.away = True
    breaker = SharedCircuitBreaker("late", sync=beats.syncs[0])
    succeed(breaker)
    beats.store.away = False
    beats.cluster.advance(2)
    assert beats.store.load().records["late"].snapshot is not None


def test_what_is_registered_are_labels_and_policy() -> None:
    beats = Beats(timeout=7)
    registration = beats.store.load().records["x"].registration
    assert registration is not None
    assert (registration.labels, registration.policy) == (LABELS.as_dict(), Policy(timeout=7))


def test_counts_last_as_long_as_the_longest_window() -> None:
    beats = Beats(rolling_count_timeout=600)
    SharedCircuitBreaker("short", Policy(rolling_count_timeout=10), sync=beats.syncs[0])
    assert beats.syncs[0].link.longest_window_ms == 600_000
    beats.syncs[0].after_fork()
    assert beats.syncs[0].link.longest_window_ms == 600_000


# -- alone -------------------------------------------------------------------------------------------------------------


def test_the_loss_is_told_with_its_reason_and_the_return_with_its_length() -> None:
    beats = Beats()
    beats.store.away = True
    beats.cluster.advance(11.25)
    assert beats.told(events.StoreLost) == [events.StoreLost("away")]
    assert beats.syncs[0].lost_reason == "away"
    beats.find()
    (back,) = beats.told(events.StoreBack)
    assert back.alone_seconds == pytest.approx(11, abs=1)


def test_a_bad_beat_makes_the_good_ones_count_anew() -> None:
    beats = Beats()
    beats.lose()
    for away in (False, False, True, False, False):
        beats.store.away = away
        beats.cluster.advance(0.25)
    assert not beats.syncs[0].sharing
    beats.cluster.advance(0.25)
    assert beats.syncs[0].sharing


def test_what_is_decided_alone_says_so() -> None:
    beats = Beats()
    beats.lose()
    fail(beats.breakers[0], 5)
    (event,) = beats.told(events.Transitioned)
    assert event.why["alone"] is True
    assert beats.breakers[0].snapshot.why["alone"] is True


def test_a_process_that_shares_with_nobody_is_not_called_alone() -> None:
    told: list[Any] = []
    sync = Sync(None, monotonic=Clock(), threads=False, tell=told.append)
    fail(SharedCircuitBreaker("x", sync=sync), 5)
    (event,) = [event for event in told if type(event) is events.Transitioned]
    assert "alone" not in event.why


def test_a_failure_that_finds_the_store_gone_is_judged_here() -> None:
    beats = Beats()
    fail(beats.breakers[0], 4)
    beats.store.away = True
    fail(beats.breakers[0])
    assert beats.breakers[0].current_state == "open"


def test_an_open_found_alone_is_dropped_when_the_others_can_judge() -> None:
    beats = Beats(2, reset_timeout=600)
    first, second = beats.breakers
    succeed(first, 50)
    beats.cluster.beat()
    beats.lose()
    fail(second, 5)
    assert second.current_state == "open"
    beats.find()
    assert states(beats.breakers) == ["closed"] * 2


def test_an_open_found_alone_keeps_its_end_and_says_where_it_was_found() -> None:
    beats = Beats(2, reset_timeout=600)
    beats.lose()
    for _ in range(5):
        fail(beats.breakers[1])
    beats.cluster.advance(100)
    beats.find()
    assert states(beats.breakers) == ["open"] * 2
    assert [breaker.retry_after for breaker in beats.breakers] == [499] * 2
    assert beats.breakers[0].snapshot.why["alone"] is True
    assert beats.breakers[0].snapshot.id


def test_an_open_found_alone_yields_to_an_operators_word_that_has_an_end() -> None:
    beats = Beats(2, reset_timeout=600)
    first, second = beats.syncs
    beats.store.workers.remove(second)
    beats.cluster.workers = [second]
    second.lose("gone")
    fail(beats.breakers[1], 5)
    desk.act(first, "x", Act(id="close", action=Action.CLOSE, for_ms=60_000), {})
    beats.cluster.advance(1)
    assert second.sharing
    assert beats.breakers[1].snapshot.state is State.CLOSED


def test_what_is_enabled_for_a_time_is_judged_as_ever() -> None:
    beats = Beats(reset_timeout=1)
    desk.act(beats.syncs[0], "x", Act(id="on", action=Action.ENABLE, for_ms=60_000), {})
    fail(beats.breakers[0], 5)
    assert beats.breakers[0].current_state == "open"
    beats.cluster.advance(1)
    succeed(beats.breakers[0])
    assert beats.breakers[0].current_state == "closed"


def test_an_open_found_alone_whose_time_is_over_is_dropped() -> None:
    beats = Beats(2, reset_timeout=2, volume_threshold=5)
    beats.lose()
    fail(beats.breakers[1], 5)
    beats.syncs[1]._turn_by_time = lambda: None  # type: ignore[method-assign]  # hung up until after its end
    beats.cluster.advance(70)
    beats.find()
    assert states(beats.breakers) == ["closed"] * 2


def test_the_half_open_door_opens_alone_too() -> None:
    beats = Beats(reset_timeout=2)
    beats.lose()
    fail(beats.breakers[0], 5)
    beats.cluster.advance(2)
    succeed(beats.breakers[0])
    assert beats.cluster.transitions() == ["CLOSED>OPEN", "OPEN>HALF_OPEN", "HALF_OPEN>CLOSED"]


def test_alone_a_call_that_comes_after_the_end_needs_no_beat() -> None:
    clock = Clock()
    sync = Sync(None, monotonic=clock, threads=False)
    breaker = SharedCircuitBreaker("x", Policy(reset_timeout=2), sync=sync)
    fail(breaker, 5)
    clock.advance(1.999)
    assert rejected(breaker)
    clock.advance(0.001)
    assert not rejected(breaker)
    assert breaker.current_state == "closed"


# -- acts that end -----------------------------------------------------------------------------------------------------


def test_the_end_of_an_act_is_told_with_the_breaker() -> None:
    beats = Beats(2)
    desk.act(beats.syncs[0], "x", Act(id="open", action=Action.OPEN, for_ms=1_000), {})
    beats.cluster.advance(2)
    (ended,) = beats.told(events.ActEnded)
    assert (ended.breaker, ended.labels, ended.operation) == ("x", LABELS, "release")
    assert (ended.before, ended.after, ended.at) == (State.OPEN, State.CLOSED, beats.breakers[0].snapshot.since)
    assert states(beats.breakers) == ["closed"] * 2


def test_an_act_ends_without_the_store_too() -> None:
    beats = Beats()
    desk.act(beats.syncs[0], "x", Act(id="open", action=Action.OPEN, for_ms=3_000), {})
    beats.lose()
    assert rejected(beats.breakers[0])
    beats.cluster.advance(3)
    assert not rejected(beats.breakers[0])


def test_a_disable_that_ends_guards_again() -> None:
    beats = Beats(2)
    desk.act(beats.syncs[0], "x", Act(id="off", action=Action.DISABLE, for_ms=1_000), {})
    beats.cluster.beat()
    fail(beats.breakers[1], 9)
    assert not rejected(beats.breakers[1])
    beats.cluster.advance(2)
    fail(beats.breakers[1], 5)
    assert rejected(beats.breakers[0])


# -- forks -------------------------------------------------------------------------------------------------------------


def test_a_fork_keeps_what_was_known_and_forgets_what_was_counted() -> None:
    beats = Beats()
    breaker = beats.breakers[0]
    fail(breaker, 5)
    beats.syncs[0].after_fork()
    assert breaker.current_state == "open"
    assert rejected(breaker)
    assert (breaker.fail_counter, len(beats.syncs[0].circuits)) == (0, 1)
    beats.cluster.advance(1)
    assert beats.syncs[0].sharing


def test_a_forked_child_comes_to_the_half_open_door_itself() -> None:
    beats = Beats(reset_timeout=1)
    fail(beats.breakers[0], 5)
    beats.cluster.advance(1)
    beats.breakers[0].admit()  # the parent's
    beats.syncs[0].after_fork()
    beats.cluster.advance(2.25)  # which nobody renews
    assert not rejected(beats.breakers[0])
    assert beats.breakers[0].current_state == "closed"


def test_a_fork_opens_the_half_open_door_in_time() -> None:
    beats = Beats(reset_timeout=5)
    fail(beats.breakers[0], 5)
    beats.syncs[0].after_fork()
    beats.cluster.advance(5)
    assert beats.breakers[0].snapshot.state is State.HALF_OPEN


# -- what is written ---------------------------------------------------------------------------------------------------


def watched(beats: Beats, monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """The writes that reach the store from now on."""
    writes: list[Write] = []
    write = beats.store.write
    monkeypatch.setattr(beats.store, "write", lambda asked: (writes.append(asked), write(asked))[1])
    return writes


def stored(beats: Beats) -> Any:
    return beats.store.load(["x"]).records["x"].snapshot


def test_a_transition_is_written_once_with_its_event_and_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(reset_timeout=2)
    sync, breaker = beats.syncs[0], beats.breakers[0]
    writes = watched(beats, monkeypatch)
    fail(breaker, 5)
    opened = breaker.snapshot
    beats.cluster.advance(2)
    opening, door = writes
    assert opening.event == {"kind": "transition", "from": "CLOSED", "to": "OPEN", "lasted": 0, "why": opened.why}
    assert (opening.not_before, opening.deadline) == (0, sync.now() - 2_000 + 100)
    assert door.event == {
        "kind": "transition",
        "from": "OPEN",
        "to": "HALF_OPEN",
        "lasted": 2000,
        "why": breaker.snapshot.why,
    }
    assert (door.not_before, door.deadline) == (opened.until, sync.now() + 100)


@pytest.mark.parametrize(
    ("action", "state", "ends"),
    [(Action.OPEN, "OPEN", "release"), (Action.DISABLE, "CLOSED", "enable"), (Action.ENABLE, "CLOSED", "enable")],
)
def test_the_end_of_an_act_is_written_with_its_event(
    monkeypatch: pytest.MonkeyPatch, action: Action, state: str, ends: str
) -> None:
    beats = Beats()
    writes = watched(beats, monkeypatch)
    desk.act(beats.syncs[0], "x", Act(id="act", action=action, for_ms=1_000), {})
    beats.cluster.advance(1)
    assert [write.event for write in writes] == [
        {"from": "CLOSED", "lasted": 0, "to": state},
        {"kind": "expired", "operation": ends, "from": state, "lasted": 1000, "to": "CLOSED"},
    ]


def test_an_enable_that_ends_over_a_policy_that_disables_is_written_as_a_disable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beats = Beats(enabled=False)
    writes = watched(beats, monkeypatch)
    desk.act(beats.syncs[0], "x", Act(id="act", action=Action.ENABLE, for_ms=1_000), {})
    beats.cluster.advance(1)
    assert writes[-1].event["operation"] == "disable"
    assert [ended.operation for ended in beats.told(events.ActEnded)] == ["disable"]


def test_a_force_that_ends_under_a_disable_with_an_end_is_released() -> None:
    beats = Beats()
    for act in (Act(id="1", action=Action.DISABLE, for_ms=60_000), Act(id="2", action=Action.OPEN, for_ms=1_000)):
        desk.act(beats.syncs[0], "x", act, {})
    beats.cluster.advance(1)
    assert [ended.operation for ended in beats.told(events.ActEnded)] == ["release"]
    assert beats.breakers[0].snapshot.switch is False


# -- a store that was emptied, or is another one -----------------------------------------------------------------------


def test_an_emptied_store_is_told_what_is_left_of_a_wait() -> None:
    beats = Beats()
    fail(beats.breakers[0], 5)
    before = beats.breakers[0].snapshot
    beats.cluster.advance(40)
    beats.store._empty()
    beats.cluster.advance(2)
    assert (stored(beats).since, stored(beats).until) == (before.since, before.until)
    assert beats.breakers[0].retry_after == 18


def test_a_store_with_another_clock_is_told_of_no_longer_wait_than_a_whole_one() -> None:
    beats = Beats()
    fail(beats.breakers[0], 5)
    beats.cluster.advance(40)
    clock = beats.store._clock
    beats.store._clock = lambda: clock() - 3_600_000
    beats.store._empty()
    beats.cluster.advance(2)
    assert stored(beats).until - stored(beats).since == 60_000
    assert beats.store._clock() - 2_000 <= stored(beats).since <= beats.store._clock()


def test_an_emptied_store_closes_the_half_open_door_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(reset_timeout=1)
    fail(beats.breakers[0], 5)
    beats.cluster.advance(1)
    beats.cluster.told.clear()
    writes = watched(beats, monkeypatch)
    beats.store._empty()
    beats.cluster.advance(1.5)
    (event,) = beats.told(events.Transitioned)
    assert (event.before, event.after, event.why) == (State.HALF_OPEN, State.OPEN, {"trial": "lost"})
    (write,) = writes
    assert write.event == {
        "kind": "transition",
        "from": "HALF_OPEN",
        "to": "OPEN",
        "lasted": 1000,
        "why": {"trial": "lost"},
    }
    assert stored(beats).id == beats.breakers[0].snapshot.id
    assert stored(beats).id


@pytest.mark.parametrize("action", [Action.OPEN, Action.DISABLE])
def test_under_an_operators_word_the_half_open_door_is_put_back_as_it_was(action: Action) -> None:
    beats = Beats(reset_timeout=1)
    fail(beats.breakers[0], 5)
    beats.cluster.advance(1)
    desk.act(beats.syncs[0], "x", Act(id="word", action=action), {})
    beats.cluster.told.clear()
    beats.store._empty()
    beats.cluster.advance(2)
    assert stored(beats).state is State.HALF_OPEN
    assert not beats.told(events.Transitioned)


def test_an_emptied_store_is_told_what_all_knew_and_not_what_one_decided_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beats = Beats()
    writes = watched(beats, monkeypatch)
    beats.lose()
    fail(beats.breakers[0], 5)
    beats.store._empty()
    beats.find()
    assert writes[0].after.state is State.CLOSED


@pytest.mark.parametrize(("epoch", "back", "looked_up"), [(None, 0, False), ("another", 0, True), (None, 1, True)])
def test_who_finds_another_store_looks_up_what_operators_said(epoch: str | None, back: int, looked_up: bool) -> None:
    lost: list[str] = []
    beats = Beats()
    beats.syncs[0].on_lost_data = lost.extend
    beats.cluster.advance(6)
    lost.clear()
    beats.lose()
    beats.store._epoch = epoch or beats.store._epoch
    beats.store._seq -= back
    beats.find()
    beats.cluster.advance(6)
    assert {*lost} == ({"x"} if looked_up else set())


# -- what was found alone ----------------------------------------------------------------------------------------------


def test_what_was_counted_alone_is_judged_on_the_return() -> None:
    beats = Beats(2, reset_timeout=600, error_threshold_percentage=30)
    first, second = beats.breakers
    succeed(first, 9)
    beats.cluster.beat()
    beats.lose()
    fail(second, 5)  # of nine and five, so no Open is offered
    beats.store.away = False
    while not beats.syncs[1].sharing:
        beats.cluster.clock.advance(0.25)
        beats.syncs[1].beat()
    assert (second.current_state, second.retry_after) == ("open", 600)


def test_an_open_found_alone_is_dropped_when_the_others_have_just_enough_to_judge() -> None:
    beats = Beats(2, reset_timeout=600)
    succeed(beats.breakers[0], 5)
    beats.cluster.beat()
    beats.lose()
    fail(beats.breakers[1], 5)
    beats.find()
    assert states(beats.breakers) == ["closed"] * 2


def test_what_was_counted_before_a_reset_judges_no_open_found_alone() -> None:
    beats = Beats(2, reset_timeout=600, rolling_count_timeout=300)
    first, second = beats.breakers
    fail(first, 5)
    desk.act(first.sync, "x", Act(id="reset", action=Action.RESET), {})
    beats.cluster.beat()
    beats.lose()
    fail(second, 5)
    beats.cluster.advance(100)
    beats.find()
    assert states(beats.breakers) == ["open"] * 2
    assert second.retry_after == 499


def test_a_loss_that_anyone_notices_takes_three_good_beats_too() -> None:
    beats = Beats()
    beats.syncs[0].lose("noticed by the ear")
    beats.cluster.advance(0.5)
    assert not beats.syncs[0].sharing
    beats.cluster.advance(0.25)
    assert beats.syncs[0].sharing


def test_a_store_that_was_away_at_the_start_takes_three_good_beats_too() -> None:
    store = Counting(clock := Clock())
    store.away = True
    cluster = Cluster(1, store=store, clock=clock)
    store.away = False
    cluster.advance(0.5)
    assert not cluster.workers[0].sharing
    cluster.advance(0.25)
    assert cluster.workers[0].sharing


def test_a_store_that_is_away_is_not_asked_again_before_its_time() -> None:
    beats = Beats()
    beats.lose()
    beats.store.asked.clear()
    for _ in range(3):
        beats.syncs[0].beat()
    assert beats.store.asked["push"] == 0


def test_what_a_store_answers_that_holds_no_more_is_not_followed() -> None:
    beats = Beats()
    stands = beats.breakers[0].snapshot
    beats.syncs[0].take(beats.breakers[0], machine.newborn(0), beats.syncs[0].local)
    assert beats.breakers[0].snapshot is stands


# -- why it was lost ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("away", "do"),
    [
        ("listen", lambda breaker: breaker.sync.listen(0)),
        ("write", lambda breaker: fail(breaker, 5)),
        ("push", fail),
        ("push", lambda breaker: breaker.sync.judge.whole_window(breaker, alone=False)),
    ],
)
def test_the_reason_of_a_loss_is_the_stores_own(
    away: str, do: Callable[[SharedCircuitBreaker], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = Beats()

    def gone(*args: Any, **more: Any) -> Any:
        raise StoreError(f"no {away}")

    monkeypatch.setattr(beats.store, away, gone)
    do(beats.breakers[0])
    assert beats.told(events.StoreLost) == [events.StoreLost(f"no {away}")]


def test_who_cannot_answer_a_call_for_counts_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(2)

    def gone(*args: Any, **more: Any) -> Any:
        raise StoreError("no answer")

    monkeypatch.setattr(beats.syncs[1].link, "flush", gone)
    fail(beats.breakers[0], 5)
    assert beats.told(events.StoreLost) == [events.StoreLost("no answer")]


def test_nothing_is_lost_at_first() -> None:
    assert Sync(None, threads=False).lost_reason == ""


def test_a_fault_of_the_couriers_own_fails_no_call_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beats = Beats()
    monkeypatch.setattr(beats.syncs[0].judge, "_reports", lambda: 1 / 0)
    fail(beats.breakers[0])
    assert "breaker courier failed" in caplog.messages
    assert beats.syncs[0].sharing


def test_evidence_that_the_store_cannot_give_is_this_process_own(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(reset_timeout=1)
    fail(beats.breakers[0], 5)
    beats.cluster.advance(1)
    beats.store.away = True
    beats.cluster.told.clear()
    succeed(beats.breakers[0])
    (event,) = beats.told(events.Transitioned)
    assert (event.after, event.why["failures"], event.why["successes"]) == (State.CLOSED, 5, 1)


def test_the_evidence_that_a_trial_is_told_with_is_the_clusters() -> None:
    beats = Beats(2, reset_timeout=1)
    first, second = beats.breakers
    fail(first, 3)
    fail(second, 2)
    beats.cluster.advance(1)
    beats.cluster.told.clear()
    succeed(first)
    (event,) = beats.told(events.Transitioned)
    assert (event.after, event.why["failures"], event.why["successes"]) == (State.CLOSED, 5, 1)


@pytest.mark.parametrize(("alone", "lost"), [(True, False), (False, True), (True, True)])
def test_evidence_of_this_process_alone_asks_the_store_for_nothing(alone: bool, lost: bool) -> None:
    beats = Beats()
    fail(beats.breakers[0], 2)
    if lost:
        beats.syncs[0].lose("gone")
    beats.store.asked.clear()
    assert beats.syncs[0].judge.whole_window(beats.breakers[0], alone=alone).failures == 2  # type: ignore[arg-type]
    assert not beats.store.asked


# -- calls for counts --------------------------------------------------------------------------------------------------


def polled(beats: Beats, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Call, int]]:
    """The calls for counts from now on, and when they were made."""
    calls: list[tuple[Call, int]] = []
    poll = beats.store.poll

    def watched(call: Call, **more: Any) -> Any:
        calls.append((call, more["now"]))
        return poll(call, **more)

    monkeypatch.setattr(beats.store, "poll", watched)
    return calls


def test_who_opens_calls_for_counts_before_and_for_ears_after(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(2)
    calls = polled(beats, monkeypatch)
    fail(beats.breakers[0], 4)
    assert not calls
    fail(beats.breakers[0])
    assert len({call.id for call, _ in calls}) == len(calls) == 2
    for call, now in calls:
        assert (call.process, [*call.names], now) == (beats.syncs[0].process, ["x"], beats.syncs[0].now())


def test_who_does_not_open_calls_once(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(2)
    calls = polled(beats, monkeypatch)
    succeed(beats.breakers[1], 30)
    fail(beats.breakers[0], 9)
    assert len(calls) == 1


def test_who_shares_with_no_other_process_calls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats()
    calls = polled(beats, monkeypatch)
    fail(beats.breakers[0], 5)
    assert (beats.breakers[0].current_state, calls) == ("open", [])


def test_who_is_called_answers_for_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(2)
    calls, pushes = polled(beats, monkeypatch), []
    push = beats.store.push

    def watched(asked: Push) -> Any:
        pushes.append(asked)
        return push(asked)

    monkeypatch.setattr(beats.store, "push", watched)
    other = SharedCircuitBreaker("y", sync=beats.syncs[1])
    succeed(beats.breakers[1])
    succeed(other)
    fail(beats.breakers[0], 5)
    answers = [push for push in pushes if push.answers]
    assert [call for push in answers for call in push.answers] == [call.id for call, _ in calls]
    assert {push.process for push in answers} == {beats.syncs[1].process}
    assert {bucket.name for push in answers for bucket in push.counts} == {"x"}


def test_failures_that_come_while_the_courier_is_away_travel_together() -> None:
    beats = Beats()
    sync, breaker = beats.syncs[0], beats.breakers[0]
    sync.courier = Courier()  # which has not begun
    first = sync.judge.report(breaker)
    second = sync.judge.report(breaker)
    assert first is second is not None
    beats.store.asked.clear()
    sync.courier.start()
    assert first.result(5) is None
    sync.courier.carry(lambda: None).result(5)
    sync.courier.stop()
    assert beats.store.asked["push"] == 1


def test_no_process_asks_for_the_breakers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    beats, asked = Beats(2), []
    load = beats.store.load

    def watched(names: Any = None, **more: Any) -> Any:
        asked.append(names)
        return load(names, **more)

    monkeypatch.setattr(beats.store, "load", watched)
    SharedCircuitBreaker("y", sync=beats.syncs[1])
    beats.store._empty()
    beats.cluster.advance(2)
    assert asked
    assert all(names is not None for names in asked)


# -- what waits, and how long ------------------------------------------------------------------------------------------


class Never(Future[Any]):
    """Brings nothing, and notes how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []

    def result(self, timeout: float | None = None) -> Any:
        self.waited.append(timeout)
        raise TimeoutError


def test_a_breaker_is_made_though_the_courier_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    beats, never = Beats(), Never()
    monkeypatch.setattr(beats.syncs[0].courier, "carry", lambda work: never)
    SharedCircuitBreaker("y", sync=beats.syncs[0])
    assert never.waited == [PATIENCE]


async def test_an_event_loop_is_never_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sync, never, waited = Beats().syncs[0], Never(), []

    async def arrival(future: Any, *, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(sync_module, "arrival", arrival)
    assert await sync.wait_async(never) is None
    assert await sync.wait_async(never) is None  # nobody else waits for a late courier
    assert waited == [PATIENCE, 0]


def test_what_the_courier_carries_is_bound_to_its_giver() -> None:
    bound: list[Any] = []
    sync = Sync(None, bind=lambda work: (bound.append(work), work)[1])
    sync.courier.carry(test_what_the_courier_carries_is_bound_to_its_giver)
    assert bound == [test_what_the_courier_carries_is_bound_to_its_giver]


def test_how_long_the_courier_is_busy_goes_by_the_clock_of_its_process() -> None:
    sync, began, gate = Sync(None, monotonic=(clock := Clock())), threading.Event(), threading.Event()
    sync.courier.start()
    job = sync.courier.carry(lambda: (began.set(), gate.wait(5)))
    assert began.wait(5)
    clock.advance(3)
    assert sync.courier.busy_for() == 3
    gate.set()
    job.result(5)
    sync.courier.stop()


@pytest.mark.parametrize("shared", [True, False])
def test_a_circuit_turned_by_hand_is_carried_only_where_there_is_something_to_wait_for(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats, carried = Beats(), []
    if not shared:
        beats.lose()
    carry = beats.syncs[0].courier.carry
    monkeypatch.setattr(beats.syncs[0].courier, "carry", lambda work: (carried.append(work), carry(work))[1])
    assert beats.breakers[0].open() is True
    assert len(carried) == shared


# -- the clock before the first push -----------------------------------------------------------------------------------


def test_a_process_alone_goes_by_its_wall_clock() -> None:
    sync = Sync(None, monotonic=(clock := Clock()), wall=lambda: 5_000_000.5, threads=False)
    clock.advance(1.5)
    assert sync.now() == 5_000_002_000


def test_a_forked_child_knows_the_stores_clock_already() -> None:
    cluster = Cluster(0)
    sync = cluster.worker(wall_ahead=600)
    known = sync.now()
    sync.after_fork()
    assert sync.now() == known == cluster.store.load().now


# -- the ear -----------------------------------------------------------------------------------------------------------


def test_a_question_that_is_open_at_a_former_store_is_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    beats, ended = Beats(), []
    monkeypatch.setattr(beats.store, "hang_up", lambda: ended.append(1))
    for times in (1, 2):
        beats.lose()
        beats.find()
        beats.cluster.advance(1)
        assert len(ended) == times


def test_after_a_call_for_counts_the_ear_listens_in_haste_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    beats, hurried, asked = Beats(2), [], []
    listen = beats.store.listen

    @contextlib.contextmanager
    def hurrying() -> Iterator[None]:
        hurried.append(1)
        yield
        hurried.pop()

    def watched(cursor: str, *, seconds: float) -> Any:
        asked.append((seconds, len(hurried)))
        return listen(cursor, seconds=0)

    monkeypatch.setattr(ear_module, "haste", hurrying)
    beats.syncs[1].listen(0)
    beats.store.poll(Call("a", beats.syncs[0].process, ["x"]), expected=frozenset(), seconds=0, wants={}, now=0)
    monkeypatch.setattr(beats.store, "listen", watched)
    for _ in range(2):
        beats.syncs[1].listen(9)
    assert asked == [(ear_module.STAY, 1), (9, 0)]


class BackMeanwhile(Beats):
    """A worker alone, whose store is found again just when it has asked for its own counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        super().__init__(2, **options)
        self.one, self.another = self.breakers
        self._monkeypatch = monkeypatch

    def find_by(self, sync: Sync) -> None:
        for _ in range(4):
            self.cluster.clock.advance(0.25)
            sync.beat()
        assert sync.sharing

    def while_it_judges(self) -> None:
        """From now on; what it writes to the shared store after that is a fault."""
        keep = self.one.sync.link.keep

        def back(wants: Any = None) -> Any:
            kept = keep(wants)
            if wants and not self.one.sync.sharing:
                self.store.away = False
                self._monkeypatch.setattr(self.one.sync.link, "keep", keep)
                self.find_by(self.one.sync)
                self._monkeypatch.setattr(self.store, "write", lambda write: pytest.fail(f"written: {write}"))
            return kept

        self._monkeypatch.setattr(self.one.sync.link, "keep", back)


def test_a_judgement_made_alone_is_never_made_in_a_store_that_is_back_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beats = BackMeanwhile(monkeypatch)
    beats.lose()
    beats.store.away = False
    beats.find_by(beats.another.sync)
    succeed(beats.another, 100)
    beats.another.sync.beat()
    fail(beats.one, 4)
    beats.while_it_judges()
    fail(beats.one)
    assert beats.one.sync.sharing
    assert states(beats.breakers) == ["closed", "closed"]
    assert beats.told(events.Transitioned) == []


def test_a_trial_alone_decides_nothing_in_a_store_that_is_back_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = BackMeanwhile(monkeypatch, reset_timeout=1)
    fail(beats.one, 5)
    beats.cluster.advance(1)
    beats.lose()
    permit = beats.one.admit()
    beats.while_it_judges()
    permit.settle(None, None)
    assert beats.one.sync.sharing
    assert beats.one.current_state == "half-open"


def test_what_time_turns_alone_is_not_written_to_a_store_found_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beats = BackMeanwhile(monkeypatch, reset_timeout=5)
    fail(beats.one, 5)
    beats.lose()
    beats.cluster.clock.advance(5)
    beats.while_it_judges()
    beats.one.sync.turn_by_time(beats.one)  # type: ignore[arg-type]
    assert beats.one.sync.sharing


def test_listeners_are_neither_hurried_nor_taken_for_the_store() -> None:
    told: list[tuple[type, float]] = []
    sync = Sync(None, threads=False, tell=lambda event: told.append((type(event), sys.getswitchinterval())))
    before = sys.getswitchinterval()
    with haste():
        sync.tell(events.Tick())
    assert told == [(events.Tick, before)]


def test_calls_for_counts_that_wait_are_answered_in_one_push() -> None:
    beats = Beats()
    (sync,) = beats.syncs
    sync.ear.calls.extend(Call(name, "another", ["x"]) for name in "abc")
    beats.store.asked.clear()
    sync._answer()
    assert (beats.store.asked["push"], len(sync.ear.calls)) == (1, 0)


def test_who_calls_for_counts_ever_so_often_does_not_keep_the_beat_from_its_work() -> None:
    beats = Beats()
    (sync,) = beats.syncs

    def answer() -> None:
        beats.cluster.clock.advance(0.01)
        sync.answer_soon()

    sync._answer = answer  # type: ignore[method-assign]
    sync.beat()
    began = sync.monotonic()
    sync.answer_soon()
    sync._rest()
    assert sync.monotonic() - began == pytest.approx(0.25, abs=0.011)


def test_an_ear_is_in_haste_once_a_call_and_not_while_it_waits_to_be_answered() -> None:
    store = MemoryStore(lambda: 1)
    sync = Sync(store, threads=False)
    sync.beat()
    with store._lock:
        store._tell(Call("c", "another", ["x"]))
    sync.ear.listen(0)
    assert sync.ear._expecting
    sync.ear.listen(0)
    assert not sync.ear._expecting
    assert len(sync.ear.calls) == 1


def test_an_ear_that_has_heard_no_call_is_in_no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked = MemoryStore(lambda: 1), []
    sync = Sync(store, threads=False)
    sync.beat()
    listen = store.listen

    def watched(cursor: str, *, seconds: float) -> Any:
        asked.append(seconds)
        return listen(cursor, seconds=0)

    monkeypatch.setattr(store, "listen", watched)
    sync.ear.listen(9)
    assert asked == [9]


def test_of_calls_for_counts_that_wait_the_last_hundred_are_answered() -> None:
    store = MemoryStore(lambda: 1)
    sync = Sync(store, threads=False)
    sync.beat()
    with store._lock:
        for number in range(150):
            store._tell(Call(str(number), "another", ["x"]))
    sync.ear.listen(0)
    assert [call.id for call in sync.ear.calls] == [str(number) for number in range(50, 150)]


def test_what_arrives_as_the_wait_ends_is_taken() -> None:
    class Arriving(Future[int]):
        def exception(self, timeout: float | None = None) -> Any:
            self.set_result(7)
            raise TimeoutError

    assert Beats().syncs[0].wait(Arriving()) == 7
