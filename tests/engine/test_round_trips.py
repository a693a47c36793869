"""Who speaks with what is shared: threads of the background, never one that makes a call. Real threads and time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Store
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.sync import Sync
from breaker.testing import Failure
from tests.engine.processes import store_of
from tests.programs import wait_for

MANY = 100
COURIER, BY_THEMSELVES = "breaker-courier", {"breaker-beat", "breaker-ear"}


class Overheard:
    """A store that notes which thread gives it a command."""

    def __init__(self, store: Store, speakers: list[str]) -> None:
        self._store, self._speakers = store, speakers

    def __getattr__(self, name: str) -> Any:
        self._speakers.append(threading.current_thread().name)
        return getattr(self._store, name)


class Caller:
    """A process, and by name the threads of it that have given a command since `forget`."""

    def __init__(self, store: Store, speakers: list[str]) -> None:
        self._speakers = speakers
        self.sync = Sync(store)
        self.sync.revive()
        wait_for(lambda: self.sync.sharing, "the shared state is followed")

    def breaker(self, **options: Any) -> SharedCircuitBreaker:
        made = SharedCircuitBreaker("x", Policy(**options), sync=self.sync)
        self.spoke()
        return made

    def spoke(self) -> set[str]:
        """Who has, since this was asked the last time."""
        heard = set(self._speakers)
        self._speakers.clear()
        return heard


@pytest.fixture(params=["memory", "redis"])
def caller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, patience: None) -> Iterator[Caller]:
    """Over Redis, whatever a connection sends is overheard, and not only what goes through the store."""
    speakers: list[str] = []
    if request.param == "memory":
        store: Any = Overheard(MemoryStore(lambda: int(time.time() * 1000)), speakers)
    else:
        store, send = store_of(request.getfixturevalue("redis_server")), redis.Connection.send_packed_command

        def overheard(*args: Any, **kwargs: Any) -> None:
            speakers.append(threading.current_thread().name)
            send(*args, **kwargs)

        monkeypatch.setattr(redis.Connection, "send_packed_command", overheard)
    made = Caller(store, speakers)
    yield made
    made.sync.close()


def by_call(breaker: SharedCircuitBreaker, work: Callable[[], None]) -> None:
    breaker.call(work)


def by_block(breaker: SharedCircuitBreaker, work: Callable[[], None]) -> None:
    with breaker.calling():
        work()


def by_coroutine(breaker: SharedCircuitBreaker, work: Callable[[], None]) -> None:
    async def wait() -> None:
        work()

    asyncio.run(breaker.call_async(wait))


WAYS = pytest.mark.parametrize("way", [by_call, by_block, by_coroutine])


def succeeds() -> None:
    pass


def fails() -> None:
    raise Failure


def calls(way: Any, breaker: SharedCircuitBreaker, work: Callable[[], None], times: int = MANY) -> int:
    """How many were run."""
    ran = []
    for _ in range(times):
        with contextlib.suppress(Failure, CallRejected):
            way(breaker, lambda: (ran.append(1), work()))
    return len(ran)


@WAYS
def test_a_call_on_a_closed_circuit_makes_no_round_trip(caller: Caller, way: Any) -> None:
    """Neither in its own thread nor by the courier, for whom it would wait; what it counts goes with a beat."""
    breaker = caller.breaker()
    assert calls(way, breaker, succeeds) == MANY
    assert caller.spoke() <= BY_THEMSELVES
    wait_for(lambda: "breaker-beat" in caller.spoke(), "the beat has sent it")


@WAYS
def test_a_rejected_call_makes_no_round_trip(caller: Caller, way: Any) -> None:
    breaker = caller.breaker(volume_threshold=1)
    calls(by_call, breaker, fails, times=1)
    assert breaker.current_state == "open"
    caller.spoke()
    assert calls(way, breaker, succeeds) == 0
    assert caller.spoke() <= BY_THEMSELVES


@WAYS
def test_a_failure_is_reported_by_the_courier(caller: Caller, way: Any) -> None:
    """Below the threshold, with the threshold, and rejected after it."""
    breaker = caller.breaker(volume_threshold=MANY // 2)
    assert calls(way, breaker, fails) == MANY // 2
    assert COURIER in (spoke := caller.spoke())
    assert spoke <= BY_THEMSELVES | {COURIER}


@WAYS
def test_a_trial_is_asked_for_by_the_courier(caller: Caller, way: Any) -> None:
    breaker = caller.breaker(volume_threshold=1, reset_timeout=0.2)
    calls(by_call, breaker, fails, times=1)
    wait_for(lambda: breaker.current_state == "half-open", "a trial is due")
    caller.spoke()
    assert calls(way, breaker, succeeds, times=1) == 1
    assert breaker.current_state == "closed"
    assert COURIER in (spoke := caller.spoke())
    assert spoke <= BY_THEMSELVES | {COURIER}
