"""Many breakers in one process: what its background costs, how much memory it takes, how long it takes to begin.

* The background's price is the processor time of all threads but the one that presses, as a share of one core. Our
  processes run at once, then interlock-cb's, whose threads take the most, and then the other peers': processor time is
  counted, not the wall's.
* `idle`: nobody calls. What a process does once a minute (it registers its breakers anew) is made to happen in a window
  of its own, and a sixtieth of a second's part of it is in the figure; beside it stands what one such turn takes.
* `busy`: 300 calls a second, each to the next breaker.
* Memory is what only this process has (USS), after all that, beyond what it had before the first breaker was made.
* Join: from the start of the background threads, with all breakers made and none of them known to an empty Redis, until
  the shared state of all is followed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from tests.benchmarks import contestants
from tests.benchmarks.contestants import BALDUR_REDIS, INTERLOCK_REDIS, OURS, PYBREAKER, crowd
from tests.benchmarks.course import Book, Course, Effort, Figure, Measured, Session, Unit, Verdict, Within
from tests.benchmarks.pace import paced
from tests.benchmarks.players import Player, playing

FEW, MANY, MOST = 12, 1_000, 10_000
CALLS_A_SECOND = 300
MINUTE = 60.0

_CAST = {
    crowd(OURS, FEW): (OURS, FEW),
    crowd(OURS, MANY): (OURS, MANY),
    crowd(OURS, MOST): (OURS, MOST),
    crowd(INTERLOCK_REDIS, FEW): (INTERLOCK_REDIS, FEW),
    crowd(INTERLOCK_REDIS, MANY): (INTERLOCK_REDIS, MANY),
    **{crowd(BALDUR_REDIS, count): (BALDUR_REDIS, count) for count in (FEW, MANY, MOST)},
    **{crowd(PYBREAKER, count): (PYBREAKER, count) for count in (FEW, MANY, MOST)},
}
_BESIDE = {row: crowd(OURS, count) for row, (_, count) in _CAST.items()}
_TOGETHER = ((OURS,), (INTERLOCK_REDIS,), (BALDUR_REDIS, PYBREAKER))
_OURS = tuple(row for row, (who, _) in _CAST.items() if who == OURS)
_ALL = tuple(_CAST)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A breaker among most may cost so many times what one among many does."""

    at_most: float

    def judge(self, course: Course, book: Book) -> Verdict | None:
        rows = book.get(course.name, {})
        if not all(row in rows for row in _OURS):
            return None
        many, most = (rows[crowd(OURS, count)].median / count for count in (MANY, MOST))
        goal = f"one of {MOST:,} costs at most {self.at_most:g} x what one of {MANY:,} does"
        found = most / max(many, 1e-12)
        return Verdict(met=found <= self.at_most, goal=goal, found=f"{found:.3g}")


_SMALL = Within(row=crowd(OURS, MANY), rank=50, at_most=0.02)
_LINEAR = Linear(at_most=1.25)
JOIN = Course(
    name="crowd-join",
    title="Until all breakers follow the shared state",
    rows=_OURS,
    ours=_BESIDE,
    once=True,
    goals=(_LINEAR,),
)
IDLE = Course(
    name="crowd-idle",
    title="Background, of one core, nobody calls",
    rows=_ALL,
    ours=_BESIDE,
    unit=Unit.CORES,
    goals=(_SMALL, _LINEAR),
)
BUSY = Course(
    name="crowd-busy",
    title=f"Background, of one core, {CALLS_A_SECOND} calls/s spread over all breakers",
    rows=_ALL,
    ours=_BESIDE,
    unit=Unit.CORES,
    goals=(_SMALL, _LINEAR),
)
MEMORY = Course(
    name="crowd-memory",
    title="Memory of the breakers and their threads",
    rows=_ALL,
    ours=_BESIDE,
    unit=Unit.BYTES,
    once=True,
    goals=(_LINEAR,),
)


def measure(courses: Sequence[Course], effort: Effort, url: str) -> Measured:
    seen: Book = {course.name: {} for course in SESSION.courses}
    there = [row for row in _ALL if not contestants.missing(_CAST[row][0])]
    for group in _TOGETHER:
        rows = [row for row in there if _CAST[row][0] in group]
        cast = []
        for place, row in enumerate(rows):
            who, count = _CAST[row]
            cast.append((lives, who, effort.some(count), f"{url.rpartition('/')[0]}/{place + 1}"))
        with playing(cast) as players:
            _watch(dict(zip(rows, players, strict=True)), effort, seen)
    for course in courses:
        absent = {row: Figure(missing=contestants.missing(_CAST[row][0])) for row in course.rows}
        yield course, absent | seen[course.name]


SESSION = Session(courses=(JOIN, IDLE, BUSY, MEMORY), measure=measure)


def _watch(players: dict[str, Player], effort: Effort, seen: Book) -> None:
    before = {row: player.ask("memory") for row, player in players.items()}
    for row, player in players.items():  # one after the other: this is the wall's time
        took = player.ask("join")
        if row in _OURS:
            seen[JOIN.name][row] = Figure(values=[took])
    _windows(players, ("watch", effort.window_seconds, 0), 1)  # what the beginning left to do is done
    idle = _windows(players, ("watch", effort.window_seconds, 0), effort.background_windows)
    ours = {row: player for row, player in players.items() if row in _OURS}
    minutely = _windows(ours, ("minute", effort.window_seconds, 0), effort.windows)
    busy = _windows(players, ("watch", effort.window_seconds, CALLS_A_SECOND), effort.background_windows)
    for row, player in players.items():
        turn = (minutely[row].median - idle[row].median) * effort.window_seconds if row in ours else 0.0
        beside = {"CPU of a registration": max(0.0, turn)} if row in ours else {}
        for course, figure in ((IDLE, idle[row]), (BUSY, busy[row])):
            values = [share + turn / MINUTE for share in figure.values]
            seen[course.name][row] = Figure(values=values, beside=figure.beside | (beside if course is IDLE else {}))
        seen[MEMORY.name][row] = Figure(values=[player.ask("memory") - before[row]])


def _windows(players: dict[str, Player], order: Any, windows: int) -> dict[str, Figure]:
    """Shares of a core, all players at once; beside them, of the last window, those of our threads by name."""
    shares = {row: Figure() for row in players}
    for _ in range(windows):
        for player in players.values():
            player.tell(order)
        for row, player in players.items():
            share, shares[row].beside = player.hear()
            shares[row].values.append(share)
    return shares


# -- in the processes --------------------------------------------------------------------------------------------------


def lives(who: str, count: int, url: str) -> Generator[Any, Any, None]:
    """A process with so many breakers, which begins, idles and presses when it is told to."""
    begin = _BEGINNINGS[who](count, url)
    guard: contestants.Guard | None = None
    order = yield "ready"
    while True:
        match order:
            case "memory":
                order = yield psutil.Process().memory_full_info().uss
            case "join":
                took, guard = begin()
                order = yield took
            case ("watch", seconds, rate):
                order = yield _background(guard, seconds, rate)
            case ("minute", seconds, rate):
                with _registering_each(seconds):
                    order = yield _background(guard, seconds, rate)


Beginning = Callable[[], tuple[float, contestants.Guard]]
"""Makes the breakers and starts them: seconds of the start, and what calls each in turn."""


def _ours(count: int, url: str) -> Beginning:
    contestants.make_our_breakers([], url)  # what Django takes is none of the breakers'

    def begin() -> tuple[float, contestants.Guard]:
        breakers = contestants.make_our_breakers((f"crowd-{number}" for number in range(count)), url)
        began = time.perf_counter()
        contestants.join(url)
        took = time.perf_counter() - began
        return took, contestants.one_after_the_other([contestants.Guard(call=breaker.call) for breaker in breakers])

    return begin


def _peers(who: str, count: int, url: str) -> Beginning:
    contestants.make(who, "crowd", url)  # what the library takes for itself

    def begin() -> tuple[float, contestants.Guard]:
        guards = [contestants.make(who, f"crowd-{number}", url) for number in range(count)]
        began = time.perf_counter()
        for guard in guards:
            guard.call(contestants.answer)  # the first call starts whatever runs behind
        return time.perf_counter() - began, contestants.one_after_the_other(guards)

    return begin


_BEGINNINGS: dict[str, Callable[[int, str], Beginning]] = {
    OURS: _ours,
    INTERLOCK_REDIS: lambda count, url: _peers(INTERLOCK_REDIS, count, url),
    BALDUR_REDIS: lambda count, url: _peers(BALDUR_REDIS, count, url),
    PYBREAKER: lambda count, url: _peers(PYBREAKER, count, url),
}


def _background(guard: contestants.Guard | None, seconds: float, rate: float) -> tuple[float, dict[str, float]]:
    assert guard is not None
    ends = time.monotonic() + seconds
    wall, whole, mine, ours = time.perf_counter(), time.process_time(), time.thread_time(), _our_threads()
    for _ in paced(rate, ends):
        guard.call(contestants.answer)
    took = time.perf_counter() - wall
    spent = time.process_time() - whole - (time.thread_time() - mine)
    each = {f"share {name}": (now - ours.get(name, 0.0)) / took for name, now in sorted(_our_threads().items())}
    return max(0.0, spent) / took, each


def _our_threads() -> dict[str, float]:
    """Seconds of processor time of the engine's threads, by name."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("breaker-") and thread.ident]
    return {
        thread.name.removeprefix("breaker-"): time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
        for thread in threads
    }


@contextlib.contextmanager
def _registering_each(seconds: float) -> Iterator[None]:
    """What is done once a minute is done once in such a window."""
    from breaker.engine import sync

    usual = sync.REGISTER
    sync.REGISTER = seconds
    try:
        yield
    finally:
        sync.REGISTER = usual
