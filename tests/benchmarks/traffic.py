"""What Redis is asked, against the rate of calls, while the circuit is closed and while it is open.

* Each contestant has a Redis of its own, so that all its commands are this one's (INFO commandstats, without INFO's own
  part). Commands that a script runs inside Redis are in it; `round trips` are what goes over the wire: Redis's count of
  reads from its clients. Where fewer than 20 were seen of either no ratio is made.
* One thread makes the calls at an even rate; `rate` says what it came to where that was less than asked.
* The guarded function does nothing, so that all latencies share the histogram's first slot. In the row that says so
  each call takes another time, from some 10 us to 1 ms, which spreads them over a hundred slots: the script's worst.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.benchmarks import contestants
from tests.benchmarks.contestants import BALDUR_REDIS, INTERLOCK_REDIS, NOPANIC_REDIS, OURS, PYBREAKER_REDIS
from tests.benchmarks.course import Book, Course, Effort, Figure, Goal, Measured, Session, Unit, Verdict
from tests.benchmarks.pace import paced
from tests.benchmarks.players import Player, playing, undertaker
from tests.programs import RedisServer

RATES = (0, 100, 300, 1_000, 3_000)
OURS_SPREAD = f"{OURS}, every latency another"
ROWS = (OURS, OURS_SPREAD, PYBREAKER_REDIS, INTERLOCK_REDIS, BALDUR_REDIS, NOPANIC_REDIS)
TOGETHER = (OURS, OURS_SPREAD, INTERLOCK_REDIS, BALDUR_REDIS)
"""Watched at the same time, since they ask Redis seldom; each of the others needs most of a core."""
FROM, FLAT = RATES[1], 1.25
FEWEST = 20
"""Commands that were seen where a ratio is shown."""
WATCHED = 4.0
"""Seconds, all windows of a whole run together."""
BRIEFLY = 0.25
"""So much of that for a row of which each call asks: a shorter look tells as much."""


@dataclass(frozen=True, kw_only=True)
class Traffic(Course):
    rate: int
    rejected: bool = False

    def ratios(self, row: str, book: Book) -> Figure:
        """None of what was hardly seen: one command more would make another."""
        figures = book.get(self.name, {})
        if any(each in figures and _seen(each, figures[each]) < FEWEST for each in (self.beside(row), row)):
            return Figure()
        return super().ratios(row, book)


def _seen(row: str, figure: Figure) -> float:
    """Commands while a row was watched in a whole run."""
    return figure.median * (WATCHED if row in TOGETHER else WATCHED * BRIEFLY)


@dataclass(frozen=True, kw_only=True)
class Flat:
    """At this rate hardly more than at a low one."""

    of: str
    """What is compared: the commands, or what stands beside them."""
    row: str

    def judge(self, course: Course, book: Book) -> Verdict | None:
        assert isinstance(course, Traffic)
        here = book.get(course.name, {}).get(self.row)
        there = book.get(_name(course.rejected, FROM), {}).get(self.row)
        if here is None or there is None or not (here.values and there.values):
            return None
        least, most = (max(1e-9, each.beside.get(self.of, each.median)) for each in (there, here))
        goal = f"{self.row}: {self.of} at most {FLAT} x those at {FROM}/s"
        return Verdict(met=most <= FLAT * least, goal=goal, found=f"{most / least:.3g}")


def _name(rejected: bool, rate: int) -> str:
    return f"traffic-{'rejected' if rejected else 'success'}-{rate}"


def _goals(rate: int) -> tuple[Goal, ...]:
    if rate != RATES[-1]:
        return ()
    return tuple(Flat(of=of, row=row) for row in (OURS, OURS_SPREAD) for of in ("round trips", "commands"))


COURSES = tuple(
    Traffic(
        name=_name(rejected, rate),
        title=f"Redis commands at {rate:,} {'rejected' if rejected else 'successful'} calls/s",
        rows=ROWS,
        unit=Unit.A_SECOND,
        rate=rate,
        rejected=rejected,
        goals=_goals(rate),
    )
    for rejected in (False, True)
    for rate in RATES
)
SUCCESS = COURSES[: len(RATES)]


def measure(courses: Sequence[Course], effort: Effort, url: str) -> Measured:
    with _cast() as players:
        for course in courses:
            assert isinstance(course, Traffic)
            figures = {row: Figure(missing=contestants.missing(row)) for row in course.rows}
            here = {row: player for row, player in players.items() if row in course.rows}
            _watch({row: player for row, player in here.items() if row in TOGETHER}, course, figures, effort)
            for row, player in here.items():
                if row not in TOGETHER:
                    brief = dataclasses.replace(effort, window_seconds=effort.window_seconds * BRIEFLY)
                    _watch({row: player}, course, figures, brief)
            yield course, figures


SESSION = Session(courses=COURSES, measure=measure)


@contextlib.contextmanager
def _cast() -> Iterator[dict[str, Player]]:
    rows = [row for row in ROWS if not contestants.missing(row)]
    with contextlib.ExitStack() as stack:
        servers = []
        for _ in rows:
            servers.append(RedisServer(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            stack.callback(servers[-1].kill)
        stack.enter_context(playing([(undertaker, server.process.pid) for server in servers]))
        cast = [(caller, row, server.url) for row, server in zip(rows, servers, strict=True)]
        yield dict(zip(rows, stack.enter_context(playing(cast)), strict=True))


def _watch(players: dict[str, Player], course: Traffic, figures: dict[str, Figure], effort: Effort) -> None:
    for player in players.values():
        player.tell(("watch", course.rejected, course.rate, effort.window_seconds, effort.windows))
    for row, player in players.items():
        figures[row].values, figures[row].beside = player.hear()


# -- in the contestant's process ---------------------------------------------------------------------------------------


def caller(row: str, url: str) -> Generator[Any, Any, None]:
    who = OURS if row == OURS_SPREAD else row
    func = _take_some_time if row == OURS_SPREAD else contestants.answer
    closed, opened = (contestants.make(who, f"bench-{state}", url) for state in ("closed", "open"))
    opened.trip()
    with contestants.connect(url) as client:
        order = yield "ready"
        while True:
            _, rejected, rate, seconds, windows = order
            guard = opened if rejected else closed
            _call(guard, func, rate, seconds / 4)  # what an earlier rate left behind is sent
            seen = [_window(client, guard, func, rate, seconds) for _ in range(windows)]
            order = yield [each["commands"] for each in seen], _beside(seen, rate)


def _window(
    client: redis.Redis, guard: contestants.Guard, func: Callable[[], Any], rate: float, seconds: float
) -> dict[str, float]:
    """All by the second."""
    before, began, cpu, mine = _asked(client), time.perf_counter(), time.process_time(), time.thread_time()
    made = _call(guard, func, rate, seconds)
    background = max(0.0, time.process_time() - cpu - (time.thread_time() - mine))
    took, after = time.perf_counter() - began, _asked(client)
    return {
        "commands": (after[0] - before[0]) / took,
        "round trips": (after[1] - before[1] - ASKS) / took,
        "rate": made / took,
        "share of a core": background / took,
    }


def _beside(seen: list[dict[str, float]], rate: float) -> dict[str, float]:
    middle = {what: Figure(values=[each[what] for each in seen]).median for what in seen[0]}
    if middle["rate"] > 0.97 * rate:
        del middle["rate"]
    del middle["commands"]
    return middle


ASKS = 2
"""Reads by which Redis is asked for its counts."""


def _asked(client: redis.Redis) -> tuple[int, int]:
    """Commands and reads of all time; what is asked here is left out of the commands."""
    reads = client.info("stats")["total_reads_processed"]
    commands: dict[str, dict[str, int]] = client.info("commandstats")
    return sum(each["calls"] for name, each in commands.items() if name != "cmdstat_info"), int(reads)


def _call(guard: contestants.Guard, func: Callable[[], Any], rate: float, seconds: float) -> int:
    made = 0
    for _ in paced(rate, time.monotonic() + seconds):
        made += 1
        with contextlib.suppress(guard.rejection):
            guard.call(func)
    return made


def _take_some_time() -> None:
    ends = time.perf_counter() + min(1e-3, random.lognormvariate(-9.2, 0.8))
    while time.perf_counter() < ends:
        pass
