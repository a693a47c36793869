"""The half-open door, and what a rejected caller is told."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from breaker.engine import desk
from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.machine import Act, Action
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Leased, LeaseRequest, StoreError, Write, Written
from breaker.testing import Cluster, Failure, fail, rejected, succeed


class Door:
    """Workers before a circuit that is half-open."""

    def __init__(self, workers: int = 1, **options: Any) -> None:
        self.cluster = Cluster(workers)
        self.breakers = self.cluster.breakers(**{"reset_timeout": 1, **options})
        self.breaker = self.breakers[0]
        fail(self.breaker, 5)
        self.cluster.advance(1)
        assert self.breaker.current_state == "half-open"


def reason(breaker: SharedCircuitBreaker) -> tuple[str, int]:
    with pytest.raises(CallRejected) as raised:
        breaker.call(pytest.fail, "called")
    return raised.value.reason, raised.value.retry_after


def gone(*args: Any, **more: Any) -> Any:
    """What a store that is away answers to anything."""
    raise StoreError("gone")


def test_a_lease_is_asked_for_the_generation_and_for_as_long_as_a_call_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, asked = Door(timeout=7, half_open_max_calls=3), []

    def lease(request: LeaseRequest) -> Leased:
        asked.append(request)
        return Leased(granted=False, now=0)

    monkeypatch.setattr(door.cluster.store, "lease", lease)
    assert rejected(door.breaker)
    (request,) = asked
    assert (request.name, request.generation, request.slots) == ("x", door.breaker.snapshot.id, 3)
    assert (request.longest_ms, request.deadline) == (8_000, door.breaker.sync.now() + 100)


def test_every_trial_has_a_token_of_its_own() -> None:
    door = Door(half_open_max_calls=2)
    door.breaker.admit(), door.breaker.admit()
    tokens = [token for _, token in door.breaker.sync.trials.renewals()]
    assert len({*tokens}) == 2
    assert all(token.startswith(door.breaker.sync.process) for token in tokens)


def test_who_is_refused_at_the_door_is_told_so() -> None:
    door = Door()
    door.breaker.admit()
    assert reason(door.breaker) == ("half_open", 1)


def test_a_process_that_was_refused_asks_again_after_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    door, asked = Door(), []

    def lease(request: LeaseRequest) -> Leased:
        asked.append(request)
        return Leased(granted=False, now=0)

    monkeypatch.setattr(door.cluster.store, "lease", lease)
    for _ in range(5):
        assert rejected(door.breaker)
        door.cluster.clock.advance(0.125)
    assert len(asked) == 3


def test_a_process_with_a_trial_of_its_own_asks_again_once_that_must_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, asked = Door(timeout=7), []
    door.breaker.admit()

    def lease(request: LeaseRequest) -> Leased:
        asked.append(request)
        return Leased(granted=False, now=0)

    monkeypatch.setattr(door.cluster.store, "lease", lease)
    for waited, questions in ((7.75, 0), (0.25, 1)):
        door.cluster.clock.advance(waited)
        assert rejected(door.breaker)
        assert len(asked) == questions


def test_a_trials_success_tells_the_whole_cluster_at_once() -> None:
    door = Door(2)
    succeed(door.breaker)
    assert door.breaker.current_state == "closed"
    assert not rejected(door.breaker)


def test_a_trial_given_up_is_renewed_no_more() -> None:
    door = Door()
    permit = door.breaker.admit()
    permit.settle(None, KeyboardInterrupt())
    assert not door.breaker.sync.trials
    door.breaker.admit()  # the lease is free


def test_a_trial_beyond_its_time_is_renewed_no_more() -> None:
    door = Door(timeout=2)
    door.breaker.admit()
    door.cluster.advance(3)
    assert door.breaker.sync.trials
    door.cluster.advance(0.25)
    assert not door.breaker.sync.trials


def test_a_classifier_that_fails_gives_the_trial_back() -> None:
    door = Door()
    door.breaker._classify = lambda result, error: 1 / 0  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        door.breaker._call_with_permit(lambda: None, (), {})
    assert not door.breaker.sync.trials


def test_a_trial_that_outlives_a_reset_decides_nothing() -> None:
    door = Door()
    permit = door.breaker.admit()
    desk.act(door.breaker.sync, "x", Act(id="reset", action=Action.RESET), {})
    permit.settle(None, Failure())
    assert door.breaker.current_state == "closed"
    assert door.cluster.transitions() == ["CLOSED>OPEN", "OPEN>HALF_OPEN"]


def test_capacity_is_looked_at_before_the_lease() -> None:
    door = Door(capacity=1, half_open_max_calls=2)
    permit = door.breaker.admit()
    assert reason(door.breaker) == ("capacity", 1)
    permit.settle(None, None)
    assert [rejected(door.breaker) for _ in range(3)] == [False] * 3


def test_a_call_that_was_never_made_gives_the_trial_back() -> None:
    from breaker.engine.window import Outcome

    door = Door()
    door.breaker._classify = lambda result, error: Outcome.REJECT
    door.breaker._settle_plainness()
    succeed(door.breaker)
    assert door.breaker.current_state == "half-open"
    assert not door.breaker.sync.trials
    assert door.breaker.success_counter == 0


async def test_an_async_trial_decides() -> None:
    door = Door()
    assert await door.breaker.call_async(asyncio.sleep, 0, 7) == 7
    assert door.breaker.current_state == "closed"


async def test_an_async_trial_that_fails_opens_again() -> None:
    door = Door()

    async def boom() -> None:
        raise Failure

    with pytest.raises(Failure):
        await door.breaker.call_async(boom)
    assert door.breaker.current_state == "open"


async def test_one_async_trial_at_a_time() -> None:
    door = Door(capacity=5)
    trial = asyncio.create_task(door.breaker.call_async(asyncio.sleep, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(CallRejected) as raised:
        await door.breaker.call_async(asyncio.sleep, 0)
    assert raised.value.reason == "half_open"
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial


async def test_an_async_trial_without_the_store_is_this_process_own(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()

    for name in ("lease", "push", "write", "load"):
        monkeypatch.setattr(door.cluster.store, name, gone)
    assert await door.breaker.call_async(asyncio.sleep, 0, 7) == 7
    assert door.breaker.current_state == "closed"


async def test_an_async_call_of_a_disabled_breaker_has_no_limit() -> None:
    (breaker,) = Cluster().breakers(enabled=False, timeout=0.001)
    assert await breaker.call_async(asyncio.sleep, 0.01, 7) == 7


async def test_capacity_bounds_async_calls() -> None:
    (breaker,) = Cluster().breakers(capacity=1)
    first = asyncio.create_task(breaker.call_async(asyncio.sleep, 60))
    await asyncio.sleep(0)
    with pytest.raises(CallRejected) as raised:
        await breaker.call_async(asyncio.sleep, 0)
    assert raised.value.reason == "capacity"
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await breaker.call_async(asyncio.sleep, 0, 7) == 7


# -- when to come again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waited", "seconds"), [(0, 60), (0.5, 60), (1, 59), (58.5, 2), (59, 1), (59.9, 1)])
def test_a_rejected_caller_is_told_whole_seconds_rounded_up(waited: float, seconds: int) -> None:
    (breaker,) = (cluster := Cluster()).breakers()
    fail(breaker, 5)
    cluster.clock.advance(waited)
    assert breaker.retry_after == seconds
    assert reason(breaker) == ("open", seconds)


def test_a_wait_that_is_over_is_told_as_one_second() -> None:
    (breaker,) = (cluster := Cluster()).breakers()
    fail(breaker, 5)
    cluster.clock.advance(300)  # and nobody has beaten meanwhile
    assert breaker.retry_after == 1


@pytest.mark.parametrize(("reset_timeout", "seconds"), [(0.5, 1), (2.5, 3)])
def test_forced_open_without_an_end_tells_the_reset_timeout_rounded_up(reset_timeout: float, seconds: int) -> None:
    (breaker,) = Cluster().breakers(reset_timeout=reset_timeout)
    desk.act(breaker.sync, "x", Act(id="open", action=Action.OPEN), {})
    assert breaker.retry_after == seconds


def test_a_call_of_exactly_its_timeout_is_in_time() -> None:
    (breaker,) = (cluster := Cluster()).breakers(timeout=5)
    breaker.call(cluster.clock.advance, 5)
    with pytest.raises(Failure):
        breaker.call(_late_failure, cluster)
    totals = breaker._own_totals()
    assert (totals.successes, totals.failures, totals.timeouts) == (1, 1, 0)


def _late_failure(cluster: Cluster) -> None:
    cluster.clock.advance(5)
    raise Failure


def test_a_policy_and_labels_may_be_left_out() -> None:
    breaker = SharedCircuitBreaker("x", sync=Cluster().workers[0])
    assert (breaker.policy, breaker.labels.as_dict()["service"], breaker.reset_timeout) == (Policy(), "", 60)


def test_opening_by_hand_says_whether_it_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    (breaker,) = Cluster().breakers(reset_timeout=7)
    assert breaker.open() is True
    assert breaker.open() is True  # it stands already
    assert breaker.retry_after == 7
    assert breaker.snapshot.why == {"byHand": True}


def test_a_long_wait_is_told_to_the_second() -> None:
    (breaker,) = Cluster().breakers(reset_timeout=3_600)
    fail(breaker, 5)
    assert breaker.retry_after == 3_600


# -- leases that are held ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_a_trial_that_has_ended_is_renewed_no_more(shared: bool) -> None:
    door = Door()
    if not shared:
        door.breaker.sync.lose("gone")
    succeed(door.breaker)
    assert door.breaker.current_state == "closed"
    assert not door.breaker.sync.trials


def test_a_trial_that_ends_after_its_time_decides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    door = Door(timeout=2)
    permit = door.breaker.admit()
    door.cluster.advance(6)
    assert not door.breaker.sync.trials
    permit.settle(None, None)
    assert door.breaker.current_state == "half-open"
    assert not caplog.records
    door.cluster.clock.advance(1)
    assert not rejected(door.breaker)
    assert door.breaker.current_state == "closed"


def test_a_trial_alone_that_was_given_up_makes_way_at_once() -> None:
    door = Door()
    door.breaker.sync.lose("gone")
    door.breaker.admit().settle(None, KeyboardInterrupt())
    assert not rejected(door.breaker)
    assert door.breaker.current_state == "closed"


def test_a_trial_that_is_given_up_after_its_time_harms_nothing() -> None:
    door = Door(timeout=2)
    permit = door.breaker.admit()
    door.cluster.advance(6)
    permit.settle(None, KeyboardInterrupt())
    assert not door.breaker.sync.trials


def test_who_is_alone_asks_the_lost_store_for_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    door.breaker.sync.lose("gone")
    for name in ("lease", "release"):
        monkeypatch.setattr(door.cluster.store, name, lambda *args: pytest.fail("asked"))
    door.breaker.admit().settle(None, KeyboardInterrupt())
    succeed(door.breaker)
    assert door.breaker.current_state == "closed"


def test_trials_are_taken_along_with_what_is_left_of_their_time() -> None:
    door = Door(timeout=7)
    door.breaker.admit()
    door.cluster.clock.advance(2.5)
    sync = door.breaker.sync
    ((_, token),) = sync.trials.renewals()
    assert sync.trials.as_leases() == [("x", token, sync.now() + 5_500)]


def test_a_trial_whose_outcome_was_refused_makes_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    permit, write = door.breaker.admit(), door.cluster.store.write

    def late(asked: Write) -> Written:
        return dataclasses.replace(write(dataclasses.replace(asked, deadline=0)))

    monkeypatch.setattr(door.cluster.store, "write", late)
    permit.settle(None, None)
    monkeypatch.setattr(door.cluster.store, "write", write)
    assert door.breaker.current_state == "half-open"
    assert not rejected(door.breaker)


def test_a_trial_that_ends_after_its_time_decides_nothing_where_the_store_goes_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = Door(timeout=2)
    permit = door.breaker.admit()
    door.cluster.clock.advance(6)

    monkeypatch.setattr(door.cluster.store, "write", gone)
    permit.settle(None, None)
    assert not door.breaker.sync.sharing
    assert door.breaker.current_state == "half-open"
    assert door.cluster.transitions() == ["CLOSED>OPEN", "OPEN>HALF_OPEN"]


async def test_an_async_trial_that_was_overtaken_opens_nothing_when_the_store_is_lost_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = Door(2)

    async def overtaken() -> None:
        desk.act(door.breaker.sync, "x", Act(id="reset", action=Action.RESET), {})
        door.cluster.beat()
        succeed(door.breakers[1], 20)
        fail(door.breaker, 5)
        monkeypatch.setattr(door.cluster.store, "push", gone)

    await door.breaker.call_async(overtaken)
    assert not door.breaker.sync.sharing
    assert door.breaker.current_state == "closed"
