"""pybreaker as a contestant, over its memory storage and over its Redis storage.

It opens after so many failures in a row (`fail_max`) and reads the wall's clock by `datetime.now`: the module's name
`datetime` is replaced while an arena is open, so that the clock is told, for each worker its own. It holds a lock for
as long as a guarded call runs: the lock is replaced by one that says at once that a caller would wait for it.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pybreaker
import redis

from tests.conformance.overlap import Calls, Guard
from tests.conformance.runner import Contestant, Excluded, WouldWait
from tests.conformance.trace import Trace

STATES = {"closed": "CLOSED", "open": "OPEN", "half-open": "HALF_OPEN"}
EPOCH = 1_700_000_000.0


class _ImpatientLock:
    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise WouldWait

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class Pybreaker(Calls):
    def __init__(self, trace: Trace, make_storage: Callable[[], Any], forget: Callable[[], Any]) -> None:
        super().__init__(pybreaker.CircuitBreakerError)
        self._policy, self._make_storage, self.forget = trace.policy, make_storage, forget
        self._clocks = trace.clocks
        self._now = EPOCH
        self._whose = threading.local()
        self._breakers: dict[str, pybreaker.CircuitBreaker] = {}
        for worker in trace.workers:
            self.join(worker)

    @property
    def told(self) -> type[datetime.datetime]:
        """What stands for pybreaker's `datetime`."""
        arena = self

        class Told(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Any:
                ahead = arena._clocks.get(getattr(arena._whose, "worker", ""), 0)
                return datetime.datetime.fromtimestamp(arena._now + ahead, tz)

        return Told

    def join(self, worker: str) -> None:
        breaker = pybreaker.CircuitBreaker(
            fail_max=self._policy.trip.consecutive or 0,
            reset_timeout=self._policy.open_seconds,
            success_threshold=self._policy.trial_successes,
            exclude=[Excluded],
            state_storage=self._make_storage(),
        )
        breaker._lock = _ImpatientLock()  # type: ignore[assignment]
        self._breakers[worker] = breaker

    def guard(self, worker: str) -> Guard:
        breaker = self._breakers[worker]

        def guarded(function: Callable[[], None]) -> Any:
            self._whose.worker = worker
            return breaker.call(function)

        return guarded

    def state(self, worker: str) -> str:
        return STATES[self._breakers[worker].current_state]

    def news(self) -> None:
        """Each call asks the storage."""

    def wait(self, seconds: float) -> None:
        self._now += seconds

    def kill(self, worker: str) -> None:
        del self._breakers[worker]

    def act(self, worker: str, act: str, seconds: float | None) -> None:
        raise NotImplementedError

    def cut(self, worker: str) -> None:
        raise NotImplementedError

    mend = cut


@contextlib.contextmanager
def _arena(trace: Trace, make_storage: Callable[[], Any], forget: Callable[[], Any]) -> Iterator[Pybreaker]:
    arena = Pybreaker(trace, make_storage, forget)
    with mock.patch.object(pybreaker, "datetime", arena.told), contextlib.closing(arena):
        yield arena


def over_memory(trace: Trace) -> contextlib.AbstractContextManager[Pybreaker]:
    return _arena(trace, lambda: pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED), lambda: None)


def over_redis(url: str) -> Callable[[Trace], contextlib.AbstractContextManager[Pybreaker]]:
    @contextlib.contextmanager
    def arena(trace: Trace) -> Iterator[Pybreaker]:
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            client.flushall()

            def storage() -> Any:
                return pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client)

            with _arena(trace, storage, client.flushall) as opened:
                yield opened

    return arena


LACKS = {
    "cluster-operator": "it has no acts of an operator",
    "first-trial-decides": "it bounds no trials",
    "goes-on-alone": "without its storage it passes all calls",
    "judges-every-outcome": "only a failure opens it",
    "operator-close": "it has no acts of an operator",
    "operator-disable": "it has no acts of an operator",
    "operator-ends": "it has no acts of an operator",
    "operator-open": "it has no acts of an operator",
    "operator-reset": "it has no acts of an operator",
    "several-trials-at-once": "it bounds no trials",
    "time-limit": "it has no time limit",
    "trial-lease": "it claims no trials",
}
ALONE = {"shared-state": "its workers share nothing", "shared-window": "its workers share nothing"}


def contestant(
    name: str, open_arena: Callable[[Trace], contextlib.AbstractContextManager[Pybreaker]], *, shared: bool
) -> Contestant:
    return Contestant(
        name=name,
        trips_by=frozenset({"consecutive"}),
        trips_why="it counts failures in a row",
        lacks=LACKS if shared else LACKS | ALONE,
        turns_when_called=True,
        open_arena=open_arena,
    )
