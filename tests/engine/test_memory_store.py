"""What the contract cannot ask of a real Redis without waiting: the store's times, under a clock."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from breaker.engine.machine import Force, Snapshot, State, newborn
from breaker.engine.policy import Policy
from breaker.engine.stores import memory
from breaker.engine.stores.base import (
    LEASE_MS,
    LIVE_MS,
    UNHEARD_MS,
    UNSEEN_MS,
    Bucket,
    LeaseRequest,
    Push,
    Registration,
    Window,
    Write,
)
from breaker.engine.stores.memory import MemoryStore, shifted
from breaker.engine.window import total

START = 1_000_000
WINDOW = Window(1_000, 10)


class Timed(MemoryStore):
    """A store whose clock says `now`."""

    def __init__(self) -> None:
        self.now = START
        super().__init__(lambda: self.now)

    def counted(self, name: str = "x", window: Window = WINDOW) -> int:
        return total(self.push(Push(process="reader", sequence=0, wants={name: window})).windows[name]).successes


@pytest.fixture
def store() -> Timed:
    return Timed()


def put(store: Timed, snapshot: Snapshot | None = None, **more: Any) -> Snapshot:
    after = snapshot or newborn(store.now)
    assert store.write(Write(name="x", expected=None, after=after, deadline=store.now, **more)).won
    return after


def add(store: Timed, sequence: int = 1, *, process: str = "p", **more: Any) -> Any:
    bucket = Bucket("x", 1_000, store.now // 1_000)
    return store.push(Push(process=process, sequence=sequence, counts={bucket: {"g|s": 1}}, keep_ms=20_000, **more))


def lease(store: Timed, snapshot: Snapshot, token: str = "a", **more: Any) -> bool:
    asked = {"generation": snapshot.id, "slots": 1, "longest_ms": 31_000, "deadline": store.now} | more
    return store.lease(LeaseRequest(name="x", token=token, **asked)).granted


# -- counts ------------------------------------------------------------------------------------------------------------


def test_a_window_is_its_buckets_up_to_the_one_that_holds_now(store: Timed) -> None:
    add(store)
    store.now += 9_999
    assert store.counted() == 1
    store.now += 1
    assert store.counted() == 0


def test_counts_are_dropped_when_they_are_of_no_use_any_more(store: Timed) -> None:
    add(store)
    store.now += 19_999
    add(store, 2)
    assert len(store._counts) == 2
    store.now += 1
    add(store, 3)
    assert Bucket("x", 1_000, START // 1_000) not in store._counts


def test_what_a_reader_does_to_a_window_changes_nothing(store: Timed) -> None:
    add(store)
    window = store.push(Push(process="q", sequence=1, wants={"x": WINDOW})).windows["x"]
    window[0].clear()  # type: ignore[attr-defined]
    assert store.counted() == 1


def test_a_process_lives_for_as_long_as_it_is_heard_of(store: Timed) -> None:
    add(store)
    store.now += LIVE_MS
    assert add(store, process="q").live == {"p", "q"}
    store.now += 1
    assert add(store, 2, process="q").live == {"q"}


def test_a_push_says_when_and_of_what_store(store: Timed) -> None:
    put(store)
    pushed = add(store)
    assert (pushed.now, pushed.seq, pushed.epoch) == (START, 1, store.load([]).epoch)
    store._empty()
    assert add(store).epoch != pushed.epoch


# -- writes and leases -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wait", "won"), [(-1, False), (0, True), (100, True), (101, False)])
def test_a_write_holds_from_its_first_moment_to_its_deadline(store: Timed, wait: int, won: bool) -> None:
    write = Write(name="x", expected=None, after=newborn(0), not_before=START, deadline=START + 100)
    store.now += wait
    written = store.write(write)
    assert (written.won, written.now) == (won, store.now)


@pytest.mark.parametrize(("wait", "won"), [(LEASE_MS - 1, True), (LEASE_MS, False)])
def test_a_lease_ends_at_its_time(store: Timed, wait: int, won: bool) -> None:
    stands = put(store)
    lease(store, stands)
    store.now += wait
    assert lease(store, stands, "b") is not won
    after = newborn(0)
    assert store.write(Write(name="x", expected=stands.rev, after=after, token="a", deadline=store.now)).won is won


def test_a_renewed_lease_lasts_anew(store: Timed) -> None:
    stands = put(store)
    lease(store, stands)
    store.now += LEASE_MS - 1
    add(store, renewals=[("x", "a"), ("x", "unknown")])
    store.now += LEASE_MS - 1
    assert not lease(store, stands, "b")
    store.now += 1
    assert lease(store, stands, "b")


def test_a_lease_that_has_ended_is_not_renewed(store: Timed) -> None:
    stands = put(store)
    lease(store, stands)
    store.now += LEASE_MS
    add(store, renewals=[("x", "a")])
    assert lease(store, stands, "b")


def test_a_lease_is_renewed_up_to_its_longest(store: Timed) -> None:
    stands = put(store)
    lease(store, stands, longest_ms=3_000)
    store.now += 1_500
    add(store, renewals=[("x", "a")])
    store.now += 1_499
    assert not lease(store, stands, "b")
    store.now += 1
    assert lease(store, stands, "b")


def test_a_lease_is_refused_after_its_deadline(store: Timed) -> None:
    stands = put(store)
    assert not lease(store, stands, deadline=store.now - 1)
    assert lease(store, stands, deadline=store.now)


def test_nobody_leases_what_is_not_there(store: Timed) -> None:
    assert not lease(store, newborn(0))


def test_a_claim_ends_at_its_time(store: Timed) -> None:
    assert store.claim("tick", milliseconds=100)
    assert store.claim("tock", milliseconds=100)
    store.now += 99
    assert not store.claim("tick", milliseconds=100)
    store.now += 1
    assert store.claim("tick", milliseconds=100)


# -- what is known of breakers -----------------------------------------------------------------------------------------


def test_a_breaker_that_nobody_registers_vanishes_after_a_day(store: Timed) -> None:
    store.register([Registration(name="x", labels={}, policy=Policy())])
    store.now += UNSEEN_MS - 1
    assert [*store.load().records] == ["x"]
    store.now += 1
    assert [*store.load().records] == []
    assert store.load(["x"]).records["x"].registration is not None


def test_a_load_says_when_and_of_what_store(store: Timed) -> None:
    put(store)
    loaded = store.load(["x"])
    assert (loaded.now, loaded.seq) == (START, 1)
    assert loaded.records["x"].snapshot is not None


def test_every_answer_says_when(store: Timed) -> None:
    stands = put(store)
    store.now += 7
    again = store.write(Write(name="x", expected=None, after=stands, deadline=store.now))
    asked = LeaseRequest(name="x", generation=stands.id, token="a", slots=1, longest_ms=31_000, deadline=store.now)
    assert (again.won, again.now, store.lease(asked).now) == (True, START + 7, START + 7)


@pytest.mark.parametrize(("silent", "heard"), [(UNHEARD_MS - 1, ["p"]), (UNHEARD_MS, [])])
def test_a_process_that_is_not_heard_of_for_a_minute_is_no_worker(store: Timed, silent: int, heard: list[str]) -> None:
    add(store)
    store.now += silent
    assert [worker.process for worker in store.heartbeats()] == heard


def test_events_that_nobody_stores_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 3)
    store = Timed()
    for name in "abcde":
        store.write(Write(name=name, expected=None, after=newborn(0), event={"kind": "transition"}, deadline=store.now))
    assert [event.name for event in store.past(9)] == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("windows", "successes"), [(None, 0), ({}, 1), ({"x": WINDOW}, 1), ({"x": Window(2_000, 1)}, 0), ({"y": WINDOW}, 1)]
)
def test_a_breakers_window_is_the_readers_or_the_registered(store: Timed, windows: Any, successes: int) -> None:
    policy = Policy(rolling_count_timeout=10, rolling_count_buckets=10)
    store.register([Registration(name="x", labels={}, policy=policy)])
    add(store)
    assert total(store.load(["x"], windows=windows).records["x"].tallies).successes == successes


def test_news_are_remembered_up_to_a_bound(store: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 3)
    revs = [None]
    cursors = [store.cursor()]
    for _ in range(7):
        after = newborn(0)
        store.write(Write(name="x", expected=revs[-1], after=after, deadline=store.now))
        revs.append(after.rev)  # type: ignore[arg-type]
        cursors.append(store.cursor())

    def since(cursor: str) -> list[str]:
        return [snapshot.rev for _, snapshot in store.listen(cursor, seconds=0).changed]

    assert since(cursors[0]) == since(cursors[3]) == revs[4:]
    assert since(cursors[5]) == revs[6:]
    assert store.listen(cursors[0], seconds=0).cursor == cursors[-1]


def test_news_are_numbered_on_however_many_were_forgotten(store: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 3)
    for number in range(1, 20):
        store.write(Write(name=f"x{number}", expected=None, after=newborn(0), deadline=store.now))
        assert store.cursor() == str(number)


def test_who_listens_does_not_wait_for_more_than_there_is(store: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = store.cursor()
    put(store)
    monkeypatch.setattr(store._told, "wait", lambda seconds: pytest.fail("waited"))
    assert len(store.listen(cursor, seconds=5).changed) == 1


# -- a clock that was set ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3_600_000, -900_000])
def test_all_that_is_held_moves_along_with_the_clock(store: Timed, step: int) -> None:
    stands = put(store, dataclasses.replace(newborn(START), state=State.OPEN, until=START + 500))
    store.register([Registration(name="x", labels={}, policy=Policy())])
    add(store)
    lease(store, stands)
    store.now += step
    store.shift(step)
    moved = store.load(["x"]).records["x"].snapshot
    assert moved is not None
    assert (moved.since, moved.until) == (store.now, store.now + 500)
    assert store.counted() == 1
    assert [*store.load().records] == ["x"]
    assert not lease(store, stands, "b")
    store.now += LEASE_MS
    assert lease(store, stands, "b")


@pytest.mark.parametrize("step", [3_600_000, -900_000])
def test_a_lease_keeps_its_longest_when_the_clock_was_set(store: Timed, step: int) -> None:
    stands = put(store)
    lease(store, stands, longest_ms=3_000)
    store.now += step
    store.shift(step)
    for _ in range(5):
        store.now += 500
        store.push(Push(process="p", sequence=0, renewals=[("x", "a")]))
    assert not lease(store, stands, "b")
    store.now += 500
    assert lease(store, stands, "b")


def test_what_was_registered_moves_along(store: Timed) -> None:
    store.register([Registration(name="x", labels={}, policy=Policy())])
    store.now += UNSEEN_MS
    store.shift(UNSEEN_MS)
    assert [*store.load().records] == ["x"]
    store.now += UNSEEN_MS
    assert not store.load().records


def test_a_lease_decides_nothing_from_its_end_on(store: Timed) -> None:
    stands = put(store)
    lease(store, stands)
    store.now += LEASE_MS
    write = Write(name="x", expected=stands.rev, after=newborn(0), deadline=store.now, token="a")
    assert not store.write(write).won


def test_no_count_moves_into_the_future_where_no_window_finds_it(store: Timed) -> None:
    store.now = START + 1_000
    add(store)
    store.now -= 400
    store.shift(-400)
    assert store.counted() == 1


def test_counts_that_move_into_one_bucket_are_added_up(store: Timed) -> None:
    add(store)
    store.now += 1_000
    add(store, 2)
    store.now -= 400
    store.shift(-400)
    assert store.counted() == 2


def test_a_claim_made_by_another_clock_holds_nobody_up(store: Timed) -> None:
    store.claim("tick", milliseconds=1_000)
    store.now -= 1_000_000
    store.shift(-1_000_000)
    assert store.claim("tick", milliseconds=1_000)


def test_the_ends_of_acts_move_along() -> None:
    snapshot = dataclasses.replace(
        newborn(10), force=Force.OPEN, force_until=20, switch=False, switch_until=30, until=40
    )
    moved = shifted(snapshot, 5)
    assert (moved.since, moved.force_until, moved.switch_until, moved.until) == (15, 25, 35, 45)
    forever = shifted(newborn(10), 5)
    assert (forever.force_until, forever.switch_until, forever.until) == (None, None, 0)


# -- what another store held -------------------------------------------------------------------------------------------


def test_circuits_and_own_trials_are_taken_over(store: Timed) -> None:
    stands = newborn(START)
    store.adopt({"x": stands}, [("x", "a", START + 500)])
    assert not lease(store, stands, "b")
    store.now += 500
    assert lease(store, stands, "b")


def test_a_trial_that_is_taken_over_lasts_a_lease_without_renewal(store: Timed) -> None:
    stands = newborn(START)
    store.adopt({"x": stands}, [("x", "a", START + 60_000)])
    store.now += LEASE_MS - 1
    assert not lease(store, stands, "b")
    store.now += 1
    assert lease(store, stands, "b")


def test_trials_that_stand_are_replaced_only_by_others(store: Timed) -> None:
    stands = put(store)
    lease(store, stands)
    store.adopt({})
    assert not lease(store, stands, "b")
    store.adopt({}, [])
    assert lease(store, stands, "b")


# -- running totals ----------------------------------------------------------------------------------------------------


def turn(store: Timed, before: Snapshot | None, state: State) -> Snapshot:
    after = dataclasses.replace(newborn(store.now), state=state)
    event = {"from": before.state.value if before else "CLOSED", "to": state.value}
    expected = before.rev if before else None
    assert store.write(Write(name="x", expected=expected, after=after, event=event, deadline=store.now)).won
    return after


def test_the_time_spent_open_is_counted_to_the_millisecond(store: Timed) -> None:
    store.found({"x": {}})
    opened = turn(store, None, State.OPEN)
    assert store.totals(["x"])["x"]["o"] == 0
    closed = turn(store, opened, State.CLOSED)
    assert store.totals(["x"])["x"]["o"] == 0
    turn(store, closed, State.OPEN)
    store.now += 7
    assert store.totals(["x"])["x"]["o"] == 7


@pytest.mark.parametrize("step", [3_600_000, -900_000])
def test_the_time_spent_open_is_none_of_the_clocks_steps(store: Timed, step: int) -> None:
    store.found({"x": {}})
    opened = turn(store, None, State.OPEN)
    store.now += step
    store.shift(step)
    store.now += 7
    assert store.totals(["x"])["x"]["o"] == 7
    turn(store, opened, State.CLOSED)
    assert store.totals(["x"])["x"]["o"] == 7
