"""Our engine as a contestant: without threads, under a clock that is told, over memory and over a real Redis."""

from __future__ import annotations

import contextlib
import itertools
import operator
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from breaker.engine import desk
from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.machine import Act, Action
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Call, Heard, Store, StoreError
from breaker.engine.stores.redis import RedisStore
from breaker.engine.sync import IDLE_BEAT, Sync
from breaker.engine.window import Tally
from breaker.testing import Clock, Cluster, SharedMemory
from tests.conformance.overlap import Calls, Guard
from tests.conformance.runner import ERRORS, Contestant, Excluded, Failure
from tests.conformance.trace import Trace
from tests.programs import wait_for
from tests.told_time import ToldRedis, tell

EPOCH = 1_700_000_000.0 - 1_000.0
"""Seconds from the told monotonic clock to the told wall clock, as breaker.testing has them."""
STATES = {"closed": "CLOSED", "open": "OPEN", "half-open": "HALF_OPEN"}


def policy_of(trace: Trace) -> Policy:
    """Ours opens above a rate: one that opens at it is a thousandth lower, which no window of 50,000 calls can tell."""
    asked, trip = trace.policy, trace.policy.trip
    assert trip.rate is not None
    assert trip.window_seconds is not None
    return Policy(
        timeout=asked.call_seconds,
        error_threshold_percentage=trip.rate - 0.001 if trip.inclusive else trip.rate,
        reset_timeout=asked.open_seconds,
        rolling_count_timeout=trip.window_seconds,
        volume_threshold=trip.volume,
        half_open_max_calls=asked.trials_at_once,
    )


class Way:
    """A worker's way to the shared store, which can be cut."""

    def __init__(self, store: Store) -> None:
        self.is_cut = False
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def through(*args: Any, **kwargs: Any) -> Any:
            if self.is_cut:
                raise StoreError("cut")
            return method(*args, **kwargs)

        return through


class Ours(Calls):
    """`connect` gives a worker its store, handed the list of those that live."""

    def __init__(
        self, trace: Trace, clock: Clock, connect: Callable[[list[Sync]], Store], forget: Callable[[], None]
    ) -> None:
        super().__init__(CallRejected)
        self._connect, self._clocks, self.forget = connect, trace.clocks, forget
        self._policy, self._longest = policy_of(trace), trace.policy.call_seconds
        self._living: list[Sync] = []
        self._cluster = Cluster(0, store=connect(self._living), clock=clock)
        self._cluster.workers = self._living
        self._ways: dict[str, Way] = {}
        self._breakers: dict[str, SharedCircuitBreaker] = {}
        self._acts = itertools.count()
        for worker in trace.workers:
            self.join(worker)

    def join(self, worker: str) -> None:
        way = Way(self._connect(self._living))
        sync = self._cluster.worker(store=way, wall_ahead=self._clocks.get(worker, 0))  # type: ignore[arg-type]
        if sync not in self._living:  # over memory the cluster has seen to it
            self._living.append(sync)
        self._ways[worker] = way
        self._breakers[worker] = SharedCircuitBreaker("x", self._policy, sync=sync, error_filter=[Excluded])
        self.news()

    def guard(self, worker: str) -> Guard:
        return self._breakers[worker].call

    def call(self, worker: str, outcome: str) -> bool:
        """By this thread. A plain function cannot be stopped: one that takes too long (T) is measured by the engine."""

        def guarded() -> None:
            self.ran()
            if outcome == "T":
                self.wait(self._longest + IDLE_BEAT)
            elif error := ERRORS[outcome]:
                raise error

        try:
            self._breakers[worker].call(guarded)
        except CallRejected:
            return False
        except (Failure, Excluded):
            pass
        return True

    def state(self, worker: str) -> str:
        return STATES[self._breakers[worker].current_state]

    def news(self) -> None:
        self._cluster.beat()

    def wait(self, seconds: float) -> None:
        """Beat by beat at both ends, and in between as often as an idle process sends a sign of life."""
        while seconds > 0:
            step = IDLE_BEAT if seconds <= 2 else min(1.0, seconds - 1)
            self._cluster.advance(min(step, seconds)) if step <= IDLE_BEAT else self._leap(step)
            seconds -= min(step, seconds)

    def _leap(self, seconds: float) -> None:
        self._cluster.clock.advance(seconds)
        self._cluster.beat()

    def act(self, worker: str, act: str, seconds: float | None) -> None:
        for_ms = None if seconds is None else round(seconds * 1000)
        done = Act(id=f"act-{next(self._acts)}", action=Action(act), for_ms=for_ms)
        desk.act(self._breakers[worker].sync, "x", done, {"kind": "operation"})

    def kill(self, worker: str) -> None:
        self._living.remove(self._breakers.pop(worker).sync)

    def cut(self, worker: str) -> None:
        self._ways[worker].is_cut = True

    def mend(self, worker: str) -> None:
        self._ways[worker].is_cut = False


# -- over memory -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def over_memory(trace: Trace) -> Iterator[Ours]:
    clock = Clock()
    store = SharedMemory(clock)

    def connect(living: list[Sync]) -> Store:
        store.workers = living
        return store

    with contextlib.closing(Ours(trace, clock, connect, store._empty)) as arena:
        yield arena


# -- over Redis --------------------------------------------------------------------------------------------------------


class ToldClock(Clock):
    """Redis is told as well."""

    def __init__(self, client: ToldRedis) -> None:
        super().__init__()
        self._client = client
        tell(client, EPOCH + self.now)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        tell(self._client, EPOCH + self.now)

    def forget(self) -> None:
        self._client.flushall()
        self.advance(0)


class PromptStore(RedisStore):
    """For those whose time stands still, and who have no threads: they cannot wait for news, so what is there is heard
    at once, however busy the machine; and when one calls for counts, another thread has the others answer."""

    def __init__(self, connect: Callable[[], ToldRedis], living: list[Sync]) -> None:
        super().__init__(connect, namespace="conformance")
        self._witness = RedisStore(connect, namespace="conformance")
        self._living = living

    def listen(self, cursor: str, *, seconds: float) -> Heard:
        there_are_news = any(map(operator.gt, _ids(self._witness.cursor()), _ids(cursor)))
        return super().listen(cursor, seconds=5) if there_are_news else Heard(cursor=cursor)

    def poll(self, call: Call, *, seconds: float, **question: Any) -> Mapping[str, Sequence[Tally]]:
        answering = threading.Thread(target=self._have_others_answer, args=(call, self._witness.cursor()))
        answering.start()
        try:
            return super().poll(call, seconds=0.9, **question)
        finally:
            answering.join()

    def _have_others_answer(self, call: Call, before: str) -> None:
        wait_for(lambda: self._witness.cursor() != before, "the call has arrived")
        for worker in self._living:
            if worker.sharing and worker.process != call.process:
                worker.listen(0)


def _ids(cursor: str) -> list[tuple[int, ...]]:
    """The last entry of each stream: ms and number."""
    return [tuple(map(int, entry.split("-"))) for entry in cursor.split(" ")]


def over_redis(url: str) -> Callable[[Trace], contextlib.AbstractContextManager[Ours]]:
    @contextlib.contextmanager
    def arena(trace: Trace) -> Iterator[Ours]:
        with contextlib.ExitStack() as clients:

            def client() -> ToldRedis:
                return clients.enter_context(ToldRedis.from_url(url, socket_timeout=5))

            first = client()
            first.flushall()
            clock = ToldClock(first)
            arena = Ours(trace, clock, lambda living: PromptStore(client, living), clock.forget)
            with contextlib.closing(arena):
                yield arena

    return arena


# -- what it claims ----------------------------------------------------------------------------------------------------

LACKS = {
    "judges-every-outcome": "only a failure opens it",
    "several-trial-successes": "one trial decides",
}


def contestant(name: str, open_arena: Callable[[Trace], contextlib.AbstractContextManager[Ours]]) -> Contestant:
    return Contestant(
        name=name,
        trips_by=frozenset({"window_seconds"}),
        trips_why="its window is one of time",
        lacks=LACKS,
        turns_when_called=False,
        open_arena=open_arena,
    )
