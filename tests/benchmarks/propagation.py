"""From the deciding failure in one process to another process's knowing."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks import contestants
from tests.benchmarks.contestants import INTERLOCK_REDIS, OURS, Down
from tests.benchmarks.players import playing
from tests.benchmarks.turns import Effort

NAME = "bench-trips"
HEARD_WITHIN = 5.0
BUSY_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Course:
    name: str
    title: str
    contestant: str
    busy_teller: bool = False
    busy_hearer: bool = False
    goal_p50: float | None = None
    """Seconds."""
    goal_p99: float | None = None


COURSES = (
    Course(name="trip-idle", title="ours, both idle", contestant=OURS, goal_p50=0.005),
    Course(name="trip-hearer", title="ours, hearer busy", contestant=OURS, busy_hearer=True, goal_p99=0.030),
    Course(
        name="trip-both", title="ours, both busy", contestant=OURS, busy_hearer=True, busy_teller=True, goal_p99=0.030
    ),
    Course(name="trip-interlock", title="interlock-cb, both idle (polls)", contestant=INTERLOCK_REDIS),
)


@dataclass(kw_only=True)
class Trips:
    heard: list[float] = field(default_factory=list)
    """Seconds."""
    unheard: int = 0
    """Not within HEARD_WITHIN, or not made: a process that loses its store opens alone, and tells nobody."""
    losses: int = 0
    """How often one of the two held the shared store for lost."""


def measure(course: Course, effort: Effort, url: str) -> Trips:
    wanted = effort.trips if course.contestant == OURS else effort.polled_trips
    pauses = random.Random(course.name)
    trips = Trips()
    ends = time.monotonic() + effort.course_seconds
    cast = [(teller, course.contestant, course.busy_teller, url), (hearer, course.contestant, course.busy_hearer, url)]
    with playing(cast) as (telling, hearing):
        while len(trips.heard) + trips.unheard < wanted and time.monotonic() < ends:
            hearing.tell("open")
            failed_at = telling.ask("trip")
            heard_at = hearing.hear()
            if failed_at and heard_at:
                trips.heard.append(max(heard_at - failed_at, 1e-9))
            else:
                trips.unheard += 1
            hearing.tell("closed")
            telling.ask("close")
            hearing.hear()
            time.sleep(pauses.uniform(0, 0.03))  # so that no beat of anyone's is always met at the same moment
        trips.losses = telling.ask("losses") + hearing.ask("losses")
    return trips


# -- in the contestants' processes -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trip:
    call: Callable[[Callable[[], Any]], Any]
    rejection: type[Exception]
    close: Callable[[], Any]
    """Closes it for all, and answers once this process holds it for closed."""
    losses: Callable[[], int] = lambda: 0


class Ear:
    """When the circuit became open or closed here. Clocks of two processes agree: both read the machine's."""

    def __init__(self) -> None:
        self.heard_at = 0.0
        self._state = "closed"
        self._news = threading.Condition()

    def hear(self, state: str) -> None:
        at = time.monotonic()
        with self._news:
            self.heard_at, self._state = at, state
            self._news.notify_all()

    def wait(self, state: str) -> float | None:
        """The moment, or None when it was not heard."""
        with self._news:
            heard = self._news.wait_for(lambda: self._state == state, HEARD_WITHIN)
            return self.heard_at if heard else None


def teller(contestant: str, busy: bool, url: str) -> Generator[Any, Any, None]:
    trip = _TRIPS[contestant](Ear(), url)
    if busy:
        _keep_busy(contestant, url)
    failed_at = 0.0

    def fail() -> None:
        nonlocal failed_at
        failed_at = time.monotonic()
        raise Down

    order = yield "ready"
    while True:
        if order == "losses":
            order = yield trip.losses()
            continue
        failed_at = 0.0
        if order == "trip":
            with suppress(Down, trip.rejection):  # rejected: the last close has not come to stay
                trip.call(fail)
        else:
            trip.close()
        order = yield failed_at


def hearer(contestant: str, busy: bool, url: str) -> Generator[Any, Any, None]:
    ear = Ear()
    trip = _TRIPS[contestant](ear, url)
    if busy:
        _keep_busy(contestant, url)
    order = yield "ready"
    while True:
        order = yield trip.losses() if order == "losses" else ear.wait(order)


def _ours(ear: Ear, url: str) -> Trip:
    import pybreaker

    from breaker import listeners
    from breaker.engine.events import StoreLost

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            ear.hear(new_state.name)

    breaker = contestants.our_breaker(NAME, url, volume_threshold=1)
    breaker.add_listener(Listener())
    told: list[Any] = []
    listeners.add(told.append)

    def close() -> None:
        """Until it is closed for all: what a process closes alone is undone once it finds the store back."""
        ends = time.monotonic() + HEARD_WITHIN
        breaker.close()
        while not (breaker.sync.sharing and breaker.current_state == "closed") and time.monotonic() < ends:
            time.sleep(0.02)
            breaker.close()

    return Trip(
        call=breaker.call,
        rejection=pybreaker.CircuitBreakerError,
        close=close,
        losses=lambda: sum(isinstance(event, StoreLost) for event in told),
    )


def _interlock(ear: Ear, url: str) -> Trip:
    import interlock
    from interlock.integrations.redis import RedisStorage

    class Listener(interlock.LoggingEventListener):
        def on_state_change(self, *, name: str, old: Any, new: Any) -> None:
            ear.hear(new.value)

    storage = RedisStorage(contestants.connect(url))
    config = interlock.Config(minimum_number_of_calls=1, wait_duration_in_open=contestants.STAYS_OPEN)
    breaker = interlock.CircuitBreaker(name=NAME, config=config, storage=storage, listener=Listener())

    breaker.call(contestants.answer)  # the first call starts its polling

    def close() -> None:
        storage.close(name=NAME, ttl=storage.state_ttl)
        breaker.reset()
        ear.wait("closed")

    return Trip(call=breaker.call, rejection=interlock.CircuitOpenError, close=close)


_TRIPS = {OURS: _ours, INTERLOCK_REDIS: _interlock}


def _keep_busy(contestant: str, url: str) -> None:
    """Threads that make guarded calls without a pause, each with some 0.1 ms of work in Python."""
    guard = contestants.MAKERS[contestant]("bench-load", url)
    page = [{"id": number, "displayName": f"client {number}", "active": True} for number in range(20)]

    def press() -> None:
        while True:
            guard.call(lambda: json.loads(json.dumps(page)))

    for _ in range(BUSY_THREADS):
        threading.Thread(target=press, daemon=True).start()
