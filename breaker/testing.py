"""Breakers under a clock that only moves when told: for tests, of this engine and of code that it guards.

cluster = Cluster(workers=2)
first, second = cluster.breakers("payments", reset_timeout=10)
fail(first, times=5)
cluster.advance(10)
succeed(second)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.machine import Snapshot
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Call, Store
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.sync import IDLE_BEAT, Sync


class Clock:
    """Seconds, as time.monotonic gives them."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class SharedMemory(MemoryStore):
    """A store that several workers of one process share. A call for counts reaches them at once; it can be cut off."""

    def __init__(self, clock: Clock, *, wall: float = 1_700_000_000.0) -> None:
        super().__init__(lambda: round((wall - 1_000.0 + clock.now) * 1000))
        self.workers: list[Sync] = []

    def _tell(self, news: tuple[str, Snapshot] | Call) -> None:
        super()._tell(news)
        if isinstance(news, Call):
            for worker in self.workers:
                if worker.sharing:
                    worker.listen(0)


class Cluster:
    """Workers that share one store and one clock, without a thread: `beat` and `advance` make them act."""

    def __init__(self, workers: int = 1, *, store: Store | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.store = store or SharedMemory(self.clock)
        self.told: list[Any] = []
        self.workers = [self.worker() for _ in range(workers)]

    def worker(self, *, store: Store | None = None, wall_ahead: float = 0.0, wants_success: bool = False) -> Sync:
        """One more process, whose own wall clock may be wrong."""
        worker = Sync(
            store or self.store,
            monotonic=self.clock,
            wall=lambda: 1_700_000_000.0 + wall_ahead,
            threads=False,
            tell=self.told.append,
            wants_success=lambda: wants_success,
        )
        if isinstance(self.store, SharedMemory):
            self.store.workers.append(worker)
        worker.beat()
        return worker

    def breakers(self, name: str = "x", **options: Any) -> list[SharedCircuitBreaker]:
        """The same breaker in every worker."""
        made = [SharedCircuitBreaker(name, Policy(**options), sync=worker) for worker in self.workers]
        self.beat()
        return made

    def beat(self) -> None:
        """Every worker hears the news and beats once."""
        for worker in self.workers:
            worker.listen(0)
            worker.beat()
        for worker in self.workers:
            worker.listen(0)

    def advance(self, seconds: float) -> None:
        """Let time pass as the workers would live it: beat by beat, with a last one at the end."""
        left = seconds
        while left > 0:
            self.clock.advance(min(left, IDLE_BEAT))
            left -= IDLE_BEAT
            self.beat()

    def transitions(self) -> list[str]:
        """What was told of changed states, such as CLOSED>OPEN, in order."""
        return [f"{e.before.value}>{e.after.value}" for e in self.told if type(e).__name__ == "Transitioned"]


class Failure(Exception):
    """What `fail` raises inside the guarded call."""


def succeed(breaker: SharedCircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.call(lambda: None)


def fail(breaker: SharedCircuitBreaker, times: int = 1, error: type[Exception] = Failure) -> None:
    for _ in range(times):
        with contextlib.suppress(error):
            breaker.call(_raise, error)


def _raise(error: type[Exception]) -> None:
    raise error


def rejected(breaker: SharedCircuitBreaker) -> bool:
    """Whether a call is turned away now; one that is not counts as a success."""
    try:
        breaker.call(lambda: None)
    except CallRejected:
        return True
    return False


def signals_sent(seconds: float = 5.0) -> bool:
    """Wait until what has happened so far was sent as signals, which a thread does; whether it was in that time."""
    from breaker import background

    return background.finish(seconds)


def states(breakers: Iterable[SharedCircuitBreaker]) -> list[str]:
    return [breaker.current_state for breaker in breakers]
