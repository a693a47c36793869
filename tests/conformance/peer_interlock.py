"""interlock-cb as a contestant, alone in memory and coordinated over its Redis storage.

Its own clock is an argument. Its poller is told never to poll by itself (`poll_interval`), and the arena polls
instead, each second that it lets pass, as the library does by default. Redis's clock is moved by moving what is
measured against it: the stored `opened_at` and the keys' remaining lives go back by as much.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import interlock
import redis
from interlock.integrations.redis import RedisStorage

from tests.conformance.overlap import Call, Calls, Guard
from tests.conformance.runner import Contestant, Excluded
from tests.conformance.trace import Trace

NEVER = 10_000_000.0
POLL_SECONDS = 1.0
STATES = {
    "closed": "CLOSED",
    "open": "OPEN",
    "half_open": "HALF_OPEN",
    "forced_open": "OPEN",
    "disabled": "CLOSED",
    "metrics_only": "CLOSED",
}


class _Classifier:
    def is_failure(self, *, result: object, exception: Exception | None) -> bool:
        return exception is not None and not isinstance(exception, Excluded)


class _Pool(redis.ConnectionPool):
    is_cut = False

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_cut:
            raise redis.ConnectionError("cut")
        return super().get_connection(*args, **kwargs)


def config_of(trace: Trace) -> interlock.Config:
    """It opens at a rate: one that opens above it is a thousandth of a percent higher."""
    asked, trip = trace.policy, trace.policy.trip
    assert trip.rate is not None
    by_count = trip.window_calls is not None
    size = trip.window_calls if by_count else trip.window_seconds
    assert size is not None
    return interlock.Config(
        failure_rate_threshold=(trip.rate if trip.inclusive else trip.rate + 0.001) / 100,
        minimum_number_of_calls=trip.volume,
        slow_call_duration_threshold=NEVER,
        permitted_calls_in_half_open=asked.trial_successes,
        max_concurrent_probes=asked.trials_at_once,
        wait_duration_in_open=asked.open_seconds,
        window_type=interlock.WindowType.COUNT_BASED if by_count else interlock.WindowType.TIME_BASED,
        window_size=int(size),
    )


class Interlock(Calls):
    def __init__(self, trace: Trace, url: str = "") -> None:
        super().__init__(interlock.CircuitOpenError)
        self._config, self._url = config_of(trace), url
        self._now = 1_000.0
        self._breakers: dict[str, interlock.CircuitBreaker] = {}
        self._made: list[interlock.CircuitBreaker] = []
        self._pools: dict[str, _Pool] = {}
        if url:
            self._redis = redis.Redis.from_url(url, socket_timeout=5)
            self._redis.flushall()
        for worker in trace.workers:
            self.join(worker)

    def monotonic(self) -> float:
        """The arena is the breakers' clock."""
        return self._now

    def join(self, worker: str) -> None:
        self._breakers[worker] = interlock.CircuitBreaker(
            name="x", config=self._config, clock=self, classifier=_Classifier(), storage=self._storage(worker)
        )
        self._made.append(self._breakers[worker])

    def _storage(self, worker: str) -> RedisStorage | None:
        if not self._url:
            return None
        self._pools[worker] = _Pool.from_url(self._url, socket_timeout=5)
        return RedisStorage(redis.Redis(connection_pool=self._pools[worker]), poll_interval=NEVER)

    def guard(self, worker: str) -> Guard:
        return self._breakers[worker].call_sync

    def settle(self, call: Call, outcome: str) -> None:
        super().settle(call, outcome)
        for lane in self._lanes():
            lane.wait_idle()

    def _lanes(self) -> list[Any]:
        lanes = [breaker._engine._sync_coordinator for breaker in self._breakers.values()]
        return [lane for lane in lanes if lane is not None]

    def state(self, worker: str) -> str:
        return STATES[self._breakers[worker].state.value]

    def news(self) -> None:
        for lane in self._lanes():
            lane.poll_once()

    def wait(self, seconds: float) -> None:
        while seconds > 0:
            step = min(seconds, POLL_SECONDS)
            self._now += step
            seconds -= step
            if self._url:
                self._age(step)
            self.news()

    def _age(self, seconds: float) -> None:
        for key in self._redis.scan_iter():
            if int(self._redis.hget(key, "opened_at") or 0):
                self._redis.hincrby(key, "opened_at", -round(seconds * 1e6))
            left = self._redis.pttl(key) - round(seconds * 1000)
            self._redis.pexpire(key, left) if left > 0 else self._redis.delete(key)

    def act(self, worker: str, act: str, seconds: float | None) -> None:
        breaker = self._breakers[worker]
        acts = {"open": breaker.force_open, "close": breaker.metrics_only, "disable": breaker.disable}
        acts.get(act, breaker.reset)()

    def kill(self, worker: str) -> None:
        del self._breakers[worker]

    def cut(self, worker: str) -> None:
        self._pools[worker].is_cut = True

    def mend(self, worker: str) -> None:
        self._pools[worker].is_cut = False

    def forget(self) -> None:
        self._redis.flushall()

    def close(self) -> None:
        super().close()
        for breaker in self._made:
            breaker.close()
        for pool in self._pools.values():
            pool.disconnect()
        if self._url:
            self._redis.close()


@contextlib.contextmanager
def over_memory(trace: Trace) -> Iterator[Interlock]:
    with contextlib.closing(Interlock(trace)) as arena:
        yield arena


def over_redis(url: str) -> Callable[[Trace], contextlib.AbstractContextManager[Interlock]]:
    return lambda trace: contextlib.closing(Interlock(trace, url))


LACKS = {
    "cluster-operator": "an operator's act holds in one process",
    "failed-trial-reopens-at-once": "it judges the rate of all trials",
    "first-trial-decides": "it judges the rate of all trials",
    "judges-failures-only": "a success can open it too",
    "operator-ends": "an operator's act has no end of its own",
    "shared-window": "each worker has a window of its own",
    "time-limit": "its time limit is a wrapper beside the breaker, and real time's",
    "trial-lease": "a trial's place has no lease",
}
SHARED = {"operator-reset": "a reset leaves the shared state as it is"}
ALONE = {"shared-state": "its workers share nothing", "goes-on-alone": "its workers share nothing"}


def contestant(
    name: str, open_arena: Callable[[Trace], contextlib.AbstractContextManager[Interlock]], *, shared: bool
) -> Contestant:
    return Contestant(
        name=name,
        trips_by=frozenset({"window_calls", "window_seconds"}),
        trips_why="it counts no failures in a row",
        lacks=LACKS | (SHARED if shared else ALONE),
        turns_when_called=True,
        open_arena=open_arena,
    )
