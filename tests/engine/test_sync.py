"""What one process does beat by beat: how often it asks the store, what it does alone, and what it tells of that."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from breaker.engine import desk, events
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.events import Labels
from breaker.engine.machine import Act, Action, State
from breaker.engine.policy import Policy
from breaker.engine.stores.base import StoreError
from breaker.engine.sync import Sync
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
    assert beats.told(events.ActEnded) == [events.ActEnded(breaker="x", labels=LABELS)]
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
