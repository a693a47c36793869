"""What one process sends to the stores: once, in order, in portions; and the store's clock, as it learns it."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable

import pytest

from breaker.engine import ledger
from breaker.engine.link import AT_ONCE, Link
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Bucket, Push, Pushed, StoreError, Window
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.window import Settled, by_name, total
from breaker.testing import Clock

AHEAD = 1_700_000_000_000
"""Milliseconds that the store's clock is ahead of the process's."""


class Recorder(MemoryStore):
    """Remembers what was pushed; `on_push` runs when a push has been done."""

    def __init__(self, clock: Clock) -> None:
        self.ahead = AHEAD
        super().__init__(lambda: int(clock() * 1000) + self.ahead)
        self.pushes: list[Push] = []
        self.on_push: Callable[[], None] = lambda: None

    def push(self, push: Push) -> Pushed:
        self.pushes.append(push)
        pushed = super().push(push)
        self.on_push()
        return pushed


class Counted:
    def __init__(self, name: str, policy: Policy) -> None:
        self.name, self.policy = name, policy
        self.outcomes: deque[Settled] = deque()


class Wire:
    """A link over a store under one clock; its circuits count what a test puts into them."""

    def __init__(self, *names: str, shared: bool = True, **options: object) -> None:
        self.clock = Clock(1_000.0)
        self.store = Recorder(self.clock)
        self.circuits = {name: Counted(name, Policy(**options)) for name in names or ("x",)}  # type: ignore[arg-type]
        self.link = Link(
            self.store if shared else None,
            process="p",
            offset=AHEAD,
            monotonic=self.clock,
            circuits=self.circuits.values,
            renewals=lambda: [("x", "token")],
        )

    def count(self, kind: str = "s", *, name: str = "x", times: int = 1) -> None:
        self.circuits[name].outcomes.extend([("g", 0.5, kind)] * times)

    def sent(self) -> list[tuple[int, int]]:
        """Sequence and completed calls of each push."""
        return [(push.sequence, total(push.counts.values()).completed) for push in self.store.pushes]

    def lose_the_next_answer(self) -> None:
        def lose() -> None:
            self.store.on_push = lambda: None
            raise StoreError("lost")

        self.store.on_push = lose


def test_a_push_says_who_sends_what_and_when() -> None:
    wire = Wire()
    wire.count("f", times=2)
    wire.link.flush(answers=["call"], wants={"x": Window(6_000, 10)})
    now = wire.link.now()
    (push,) = wire.store.pushes
    assert (push.process, push.sequence, push.now, push.answers) == ("p", 1, now, ["call"])
    assert (push.renewals, push.wants) == ([("x", "token")], {"x": Window(6_000, 10)})
    ((bucket, counted),) = push.counts.items()
    assert bucket == Bucket("x", 6_000, now // 6_000)
    assert counted["g|f"] == counted[f"g|w|{socket.gethostname()}|p"] == 2


def test_a_push_brings_back_the_windows_that_it_asks_for() -> None:
    wire = Wire()
    wire.count(times=3)
    assert total(wire.link.flush(wants={"x": Window(6_000, 10)}).windows["x"]).successes == 3
    assert wire.link.flush().windows == {}


def test_what_was_sent_is_not_sent_again() -> None:
    wire = Wire()
    for _ in range(2):
        wire.count()
        wire.link.flush()
    wire.link.flush()
    assert wire.sent() == [(1, 1), (2, 1), (3, 0)]


def test_a_push_whose_answer_was_lost_goes_again_under_its_number_before_anything_newer() -> None:
    wire = Wire()
    wire.count(times=2)
    wire.lose_the_next_answer()
    with pytest.raises(StoreError):
        wire.link.flush()
    wire.count()
    wire.link.flush()
    assert wire.sent() == [(1, 2), (1, 2), (2, 1)]
    assert total(wire.link.flush(wants={"x": Window(6_000, 10)}).windows["x"]).completed == 3


def test_only_the_newest_push_answers_a_call_for_counts() -> None:
    wire = Wire()
    wire.lose_the_next_answer()
    with pytest.raises(StoreError):
        wire.link.flush()
    wire.link.flush(answers=["call"], wants={"x": Window(6_000, 10)})
    assert [(push.answers, [*push.wants]) for push in wire.store.pushes[1:]] == [((), []), (["call"], ["x"])]


def test_many_breakers_go_in_portions() -> None:
    names = [f"b{number}" for number in range(AT_ONCE + 1)]
    wire = Wire(*names)
    for name in names:
        wire.count(name=name)
    wire.link.flush(answers=["call"])
    assert [len(push.counts) for push in wire.store.pushes] == [AT_ONCE, 1]
    assert [push.sequence for push in wire.store.pushes] == [1, 2]
    assert [push.answers for push in wire.store.pushes] == [(), ["call"]]
    assert len({bucket.name for push in wire.store.pushes for bucket in push.counts}) == AT_ONCE + 1


def test_what_waits_to_be_sent_is_owed_until_it_has_arrived() -> None:
    wire = Wire()
    assert not wire.link.owing
    wire.count()
    wire.link.drain()
    assert wire.link.owing
    wire.lose_the_next_answer()
    with pytest.raises(StoreError):
        wire.link.flush()
    assert wire.link.owing
    wire.link.flush()
    assert not wire.link.owing


def test_a_process_that_shares_with_nobody_owes_nothing() -> None:
    wire = Wire(shared=False)
    wire.count()
    wire.link.drain()
    assert not wire.link.owing
    assert wire.link.own_totals(wire.circuits["x"]).successes == 1


def test_what_one_thread_keeps_is_not_overtaken_by_anothers() -> None:
    """The memory store would take what comes late for applied before."""
    wire, pushing, gate = Wire(shared=False), threading.Event(), threading.Event()
    push = wire.link.local.push

    def held_up(asked: Push) -> Pushed:
        pushing.set()
        gate.wait(0.2 if threading.current_thread() is first else 0)
        return push(asked)

    wire.link.local.push = held_up  # type: ignore[method-assign]
    wire.count(times=100)
    wire.link.drain()
    first = threading.Thread(target=wire.link.keep)
    first.start()
    assert pushing.wait(5)
    wire.count("f", times=5)
    totals = wire.link.own_totals(wire.circuits["x"])
    first.join()
    assert (totals.successes, totals.failures) == (100, 5)


def test_a_probe_sends_nothing_that_was_not_under_way() -> None:
    wire = Wire()
    wire.count()
    wire.link.flush()
    wire.count()
    wire.link.drain()
    wire.link.probe()
    assert wire.sent() == [(1, 1), (1, 0)]
    assert wire.link.owing


def test_a_probe_brings_what_was_under_way() -> None:
    wire = Wire()
    wire.count()
    wire.lose_the_next_answer()
    with pytest.raises(StoreError):
        wire.link.flush()
    wire.link.probe()
    assert wire.sent() == [(1, 1), (1, 1)]
    assert not wire.link.owing


def test_some_circuits_may_be_drained_alone() -> None:
    wire = Wire("x", "y")
    wire.count(name="x")
    wire.count(name="y")
    wire.link.flush(only=[wire.circuits["x"]])
    assert [bucket.name for bucket in wire.store.pushes[0].counts] == ["x"]
    assert len(wire.circuits["y"].outcomes) == 1


def test_counts_are_kept_for_longer_than_the_longest_window() -> None:
    wire = Wire()
    wire.link.flush()
    wire.link.longest_window_ms = 600_000
    wire.link.flush()
    assert [push.keep_ms for push in wire.store.pushes] == [76_000, 751_000]


def test_counts_that_no_window_reaches_are_forgotten_while_the_store_is_away() -> None:
    wire = Wire("old", "new")
    wire.count(name="old")
    wire.link.drain()
    wire.clock.advance(0.25)
    wire.count(name="new")
    wire.link.drain()
    wire.clock.advance(76)
    wire.link.forget_old()
    wire.link.flush()
    assert [bucket.name for bucket in wire.store.pushes[0].counts] == ["new"]


def test_a_breaker_without_percentiles_keeps_no_histogram() -> None:
    wire = Wire(rolling_percentiles_enabled=False)
    wire.count()
    wire.link.flush()
    (counted,) = wire.store.pushes[0].counts.values()
    assert counted == {"g|s": 1, "g|u": 500_000}


def test_counts_of_one_bucket_are_added_up_before_they_are_sent() -> None:
    wire = Wire(rolling_count_timeout=3_600, rolling_count_buckets=1)
    for _ in range(3):
        wire.count()
        wire.link.drain()
        wire.clock.advance(1)
    wire.link.flush()
    assert [len(push.counts) for push in wire.store.pushes] == [1]
    assert wire.sent() == [(1, 3)]


# -- the store's clock -------------------------------------------------------------------------------------------------


def test_the_stores_clock_is_read_in_the_middle_of_the_round_trip() -> None:
    wire = Wire()
    wire.store.ahead += 10_000
    read: list[int] = []

    def take() -> None:
        read.append(wire.store._clock())
        wire.clock.advance(0.2)

    wire.store.on_push = take
    wire.link.flush()
    assert wire.link.now() == read[0] + 100  # of 200 ms, half were the way back
    assert wire.link.offset == wire.link.now() - 1_000_200


@pytest.mark.parametrize("step", [-3_600_000, 3_600_000, -2_000, 2_000])
def test_the_own_window_moves_along_when_the_stores_clock_was_set(step: int) -> None:
    wire = Wire()
    wire.count("f", times=4)
    wire.link.drain()
    short = wire.link.keep({"x": Window(1_000, 1)}).windows["x"]
    assert total(short).failures == 0  # kept in buckets of 6 s
    wire.store.ahead += step
    wire.link.flush()
    assert wire.link.own_totals(wire.circuits["x"]).failures == 4


@pytest.mark.parametrize("step", [501, -501])
def test_half_a_second_is_a_step_of_the_stores_clock(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, moved = Wire(), []
    monkeypatch.setattr(wire.link.local, "shift", moved.append)
    wire.store.ahead += step
    wire.link.flush()
    assert moved == [step]


def test_jitter_of_the_stores_clock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    monkeypatch.setattr(wire.link.local, "shift", lambda milliseconds: pytest.fail("moved"))
    for step in (500, -500):
        wire.store.ahead += step
        wire.link.flush()


# -- history -----------------------------------------------------------------------------------------------------------


def minutes(wire: Wire) -> dict[int, dict[str, int]]:
    """Minute, counted from now, to successes by breaker."""
    now = wire.link.now() // 60_000
    found: dict[int, dict[str, int]] = {}
    for push in wire.store.pushes:
        for number, counted in push.minutes.items():
            for name, totals in by_name(counted).items():
                of_minute = found.setdefault(number - now, {})
                of_minute[name] = of_minute.get(name, 0) + totals.successes
    return found


def test_history_gets_what_the_window_gets() -> None:
    wire = Wire("x", "y")
    wire.count(times=3)
    wire.count(name="y")
    wire.link.flush()
    assert minutes(wire) == {0: {"x": 3, "y": 1}}


def test_what_no_window_reaches_any_more_still_comes_into_its_minute() -> None:
    wire = Wire(rolling_count_timeout=1, rolling_count_buckets=1)
    for _ in range(5):
        wire.count(times=2)
        wire.link.drain()
        wire.clock.advance(100)
        wire.link.forget_old()
    assert wire.link.owing
    wire.link.flush()
    assert sum(found["x"] for found in minutes(wire).values()) == 10
    assert min(minutes(wire)) in (-9, -8)
    assert wire.store.pushes[0].counts == {}
    assert not wire.link.owing


def test_history_waits_two_hours_for_the_store_and_no_longer() -> None:
    wire = Wire()
    wire.count()
    wire.link.drain()
    wire.clock.advance(7_000)
    wire.link.forget_old()
    assert wire.link.owing
    wire.clock.advance(300)
    wire.link.forget_old()
    assert not wire.link.owing


def test_history_waits_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LATE_AT_MOST", 2)
    wire = Wire()
    for times in (1, 2, 4):
        wire.count(times=times)
        wire.link.drain()
        wire.clock.advance(100)
    wire.link.forget_old()
    wire.link.flush()
    assert sum(found["x"] for found in minutes(wire).values()) == 6  # the oldest is gone


def test_what_waits_for_history_is_kept_in_coarse_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LATE_AT_MOST", 1)
    wire = Wire()
    for _ in range(3):
        wire.count()
        wire.link.drain()
        wire.clock.advance(1)
    wire.clock.advance(100)
    wire.link.forget_old()
    wire.link.flush()
    assert sum(found["x"] for found in minutes(wire).values()) == 3


def test_a_process_that_shares_keeps_no_history_of_its_own() -> None:
    for shared in (True, False):
        wire = Wire(shared=shared)
        wire.count()
        wire.link.drain()
        wire.link.keep()
        assert bool(wire.link.local.due_minutes()) is not shared


def test_running_totals_get_what_the_window_gets() -> None:
    wire = Wire()
    wire.count("s", times=2)
    wire.count("r")
    wire.link.flush()
    assert wire.store.pushes[-1].totals == {"x": {"s": 2, "r": 1, "u": 1_000_000, "h|6": 2}}


def test_what_is_noted_goes_with_the_next_push_of_all() -> None:
    wire = Wire()
    wire.link.note("@book", "a")
    wire.link.note("@book", "a", 2)
    wire.link.flush(only=[])
    wire.link.flush()
    wire.link.flush()
    assert [push.totals for push in wire.store.pushes] == [{}, {"@book": {"a": 3}}, {}]


def test_what_is_noted_makes_no_haste() -> None:
    wire = Wire()
    wire.link.note("@book", "a")
    wire.link.drain()
    assert not wire.link.owing


def test_what_is_noted_waits_for_the_shared_store_and_not_for_the_own() -> None:
    wire = Wire()
    wire.link.note("@book", "a")
    wire.link.keep()
    wire.link.flush()
    assert [push.totals for push in wire.store.pushes] == [{"@book": {"a": 1}}]


def test_what_is_noted_where_nothing_beats_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "NOTED_AT_MOST", 3)
    wire = Wire()
    for field in "abcde":
        wire.link.note("@book", field)
    wire.link.flush()
    assert wire.store.pushes[-1].totals == {"@book": {"c": 1, "d": 1, "e": 1}}


def test_what_was_noted_goes_once_when_its_answer_was_lost() -> None:
    wire = Wire()
    wire.link.note("@book", "a")
    wire.lose_the_next_answer()
    with pytest.raises(StoreError):
        wire.link.flush()
    wire.link.flush()
    wire.store.found({"@book": {}})
    assert wire.store.totals(["@book"]) == {"@book": {"a": 1}}


def test_what_is_noted_goes_with_one_portion_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire("x", "y")
    monkeypatch.setattr("breaker.engine.link.AT_ONCE", 1)
    wire.count(name="x")
    wire.count(name="y")
    wire.link.note("@book", "a")
    wire.link.flush()
    assert [push.totals.get("@book") for push in wire.store.pushes] == [{"a": 1}, None]


def test_a_process_without_a_shared_store_keeps_its_own_totals() -> None:
    wire = Wire(shared=False)
    wire.count("s")
    wire.link.note("@book", "a")
    wire.link.drain()
    wire.link.keep()
    wire.link.local.found({"x": {}, "@book": {}})
    totals = wire.link.local.totals(["x", "@book"])
    assert (totals["x"]["s"], totals["@book"]) == (1, {"a": 1})


def test_a_process_that_shares_keeps_no_totals_of_its_own() -> None:
    wire = Wire()
    wire.count("s")
    wire.link.note("@book", "a")
    wire.link.drain()
    wire.link.keep()
    wire.link.local.found({"x": {}, "@book": {}})
    assert wire.link.local.totals(["x", "@book"]) == {"x": {}, "@book": {}}


def test_totals_lose_nothing_however_long_the_store_is_away() -> None:
    wire = Wire()
    wire.count("s", times=3)
    wire.count("b")
    wire.link.drain()
    wire.clock.advance(3 * 3600)
    wire.link.forget_old()
    wire.link.flush()
    (push,) = wire.store.pushes
    assert push.minutes == {}
    assert (push.totals["x"]["s"], push.totals["x"]["b"], push.totals["@store"]) == (3, 1, {"lost": 3})


def test_a_round_trip_is_measured() -> None:
    wire = Wire()
    assert wire.link.round_trip is None
    wire.store.on_push = lambda: wire.clock.advance(0.25)
    wire.link.flush()
    assert wire.link.round_trip == 0.25
