"""From the deciding failure in one process to the last of several processes' knowing.

The clock runs from the guarded function's failure in one worker to the moment when the last of them all, itself
included, holds the circuit for open. Loads, in every worker that is not said to be idle:

* `spin`: 8 threads that make guarded calls without a pause, each with some 0.1 ms of Python: all that a process can do,
  and with several workers more than a machine of two cores has.
* `gthread`: 32 threads, as the gateway's worker has by default, which together make guarded calls at a fixed rate; the
  workers' rates add up to 2,000 calls a second. Each call does some 0.3 ms of Python and waits, as for a socket, for
  nine tenths of the time until its thread's next call is due: 29 ms with two workers, 230 ms with sixteen. So all 32
  threads are in a call most of the time, and hardly ever want the interpreter.

pybreaker has no row, nor has nopanic-redis: they tell nobody, each call asks Redis. Nor has baldur-framework: its
processes read another's trip when they start, or when their own failures are about to trip it, and what would tell
those that run is not in the free package (`cluster_state_propagation_enabled`). interlock-cb polls each second.

`unheard` and `held for lost` count trips that stayed in one process, because it took its own want of CPU for a Redis
that does not answer.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.benchmarks import contestants
from tests.benchmarks.contestants import INTERLOCK_REDIS, OURS, Down
from tests.benchmarks.course import Course, Effort, Figure, Measured, Session, Within
from tests.benchmarks.players import Player, playing

NAME = "bench-trips"
HEARD_WITHIN = 5.0
BUSY_THREADS = 8
GTHREADS = 32
CALLS_A_SECOND = 2_000
"""Of all workers together, under the load `gthread`."""
IN_CALL = 0.9
"""Of the time each thread waits for its call's answer, under the load `gthread`."""
IDLE, SPIN, GTHREAD = "idle", "spin", "gthread"
CROWDS = (2, 4, 8, 16)
POLLED = "interlock-cb, 2 workers"


def _row(workers: int) -> str:
    return f"{workers} workers"


def workers(row: str) -> int:
    return int(row.split()[-2])


def _ours_of() -> dict[str, str]:
    """No number of ours is set beside another."""
    return {row: row for row in map(_row, CROWDS)} | {POLLED: _row(2)}


@dataclass(frozen=True, kw_only=True)
class Trips(Course):
    """Each row is a number of workers; the last row may be a peer's."""

    teller_load: str = IDLE
    hearer_load: str = IDLE
    ranks: tuple[int, int] = (99, 100)
    ours: Mapping[str, str] = field(default_factory=_ours_of, hash=False)


def _rows_within(rank: int, seconds: float, crowds: Sequence[int] = CROWDS) -> tuple[Within, ...]:
    return tuple(Within(row=_row(workers), rank=rank, at_most=seconds) for workers in crowds)


COURSES = (
    Trips(
        name="trip-idle",
        title="From the deciding failure to the last worker's knowing, idle",
        rows=(*map(_row, CROWDS), POLLED),
        goals=_rows_within(50, 0.005),
        why_missed="each worker takes some 0.5 ms of processor time to be asked, to answer and to hear, and two cores "
        "serve sixteen one after the other",
    ),
    Trips(
        name="trip-gthread",
        title=f"The same, each worker's {GTHREADS} threads in a call (gthread: {CALLS_A_SECOND:,} calls/s in all)",
        rows=(*map(_row, CROWDS),),
        teller_load=GTHREAD,
        hearer_load=GTHREAD,
        goals=_rows_within(99, 0.030),
    ),
    Trips(
        name="trip-spin",
        title=f"The same, {BUSY_THREADS} threads of each worker spinning",
        rows=(*map(_row, CROWDS[:2]),),  # of more the machine's two cores alone would be told
        teller_load=SPIN,
        hearer_load=SPIN,
        goals=_rows_within(99, 0.030, CROWDS[:2]),
        why_missed="more threads want the cores than there are: whose thread is woken waits until the operating system "
        "gives its process a core, some milliseconds each time, and a trip takes some ten turns",
    ),
    Trips(
        name="trip-hearer",
        title=f"The same, {BUSY_THREADS} threads of the hearer spinning, the other idle",
        rows=(_row(2),),
        hearer_load=SPIN,
        goals=_rows_within(99, 0.030, CROWDS[:1]),
        why_missed="the hearer's ear is woken among eight threads that never wait, and gets the interpreter after some "
        "of them have had their turn",
    ),
)


def measure(courses: Sequence[Course], effort: Effort, url: str) -> Measured:
    for course in courses:
        assert isinstance(course, Trips)
        yield course, {row: _trips(course, row, effort, url) for row in course.rows}


SESSION = Session(courses=COURSES, measure=measure)


def _trips(course: Trips, row: str, effort: Effort, url: str) -> Figure:
    contestant = INTERLOCK_REDIS if row == POLLED else OURS
    crowd = effort.some(workers(row))
    wanted = effort.trips if contestant == OURS else effort.polled_trips
    pauses = random.Random(course.name + row)
    trips = Figure(beside={"trips": 0, "unheard": 0, "held for lost": 0})
    rate = CALLS_A_SECOND / crowd
    contestants.empty(url)
    cast = [(teller, contestant, course.teller_load, rate, url)]
    cast += [(hearer, contestant, course.hearer_load, rate, url)] * (crowd - 1)
    with playing(cast) as (telling, *hearing):
        ends = time.monotonic() + (effort.course_seconds if contestant == OURS else 3 * effort.course_seconds)
        while len(trips.values) < wanted and time.monotonic() < ends:
            took = _trip(telling, hearing)
            trips.beside["trips"] += 1
            trips.beside["unheard"] += took == math.inf
            trips.values.append(took)
            time.sleep(pauses.uniform(0, 0.03))  # so that no beat of anyone's is always met at the same moment
        trips.beside["held for lost"] = sum(player.ask("losses") for player in (telling, *hearing))
    return trips


def _trip(telling: Player, hearing: list[Player]) -> float:
    """Seconds, and closes it again; infinite when somebody did not hear, or it was not made."""
    for player in hearing:
        player.tell("open")
    failed_at, told_at = telling.ask("trip")
    heard = [told_at, *(player.hear() for player in hearing)]
    for player in hearing:
        player.tell("closed")
    telling.ask("close")
    for player in hearing:
        player.hear()
    return max(*heard, failed_at + 1e-9) - failed_at if failed_at and all(heard) else math.inf


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


def teller(contestant: str, load: str, rate: float, url: str) -> Generator[Any, Any, None]:
    ear = Ear()
    trip = _TRIPS[contestant](ear, url)
    _take_up(load, contestant, rate, url)
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
        failed_at, told_at = 0.0, None
        if order == "trip":
            with suppress(Down, trip.rejection):  # rejected: the last close has not come to stay
                trip.call(fail)
            told_at = ear.wait("open") if failed_at else None
        else:
            trip.close()
        order = yield failed_at, told_at


def hearer(contestant: str, load: str, rate: float, url: str) -> Generator[Any, Any, None]:
    ear = Ear()
    trip = _TRIPS[contestant](ear, url)
    _take_up(load, contestant, rate, url)
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


PAGE = [{"id": number, "displayName": f"client {number}", "active": True} for number in range(20)]


def work() -> None:
    """Some 0.1 ms of Python."""
    json.loads(json.dumps(PAGE))


def _call_mifos(seconds: float) -> None:
    """Some 0.3 ms of Python, and a wait as for a socket."""
    work()
    time.sleep(seconds)
    work()
    work()


def _take_up(load: str, contestant: str, rate: float, url: str) -> None:
    """Keep this process busy from now on, with `rate` calls a second where the load has one."""
    if load == IDLE:
        return
    guard = contestants.make(contestant, "bench-load", url)
    for place in range(GTHREADS if load == GTHREAD else BUSY_THREADS):
        steps = _paced(GTHREADS / rate, place / rate) if load == GTHREAD else _without_pause()
        func = partial(_call_mifos, IN_CALL * GTHREADS / rate) if load == GTHREAD else work
        threading.Thread(target=_press, args=(guard, func, steps), daemon=True).start()


def _press(guard: contestants.Guard, func: Callable[[], Any], steps: Iterable[Any]) -> None:
    for _ in steps:
        guard.call(func)


def _without_pause() -> Iterator[None]:
    while True:
        yield


def _paced(period: float, start: float) -> Iterator[None]:
    """A step each period; those that come too late come at once, and what is a second late is left out."""
    due = time.monotonic() + start
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        yield
        due = max(due + period, time.monotonic() - 1)
