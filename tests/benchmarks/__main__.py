"""What a guarded call costs, beside what others' cost, in one run: `make bench`.

Method
* Each contestant lives in a process of its own, so that no library's background thread takes another's time. They
  press in turns of 0.3 s, in a new random order each round, never two at once. A ratio is made of two turns of one
  round, and the table shows the median over the rounds and p10..p90: a machine that is slow for a while is slow for
  both. (pyperf runs one benchmark to its end before the next, which may be minutes apart; its file format, metadata
  and tools are used for what is kept.)
* All guard the same function, which does nothing, by `breaker.call(function)`, with the library's own defaults and
  the thread switch interval that the gateway sets. The loop and the function are in every figure: `unguarded` shows
  how much that is. A turn that was not wholly admitted (or wholly rejected) ends the run.
* Ours counts in the background. A turn lasts three of its beats, and its clock stops only when all of its calls have
  been counted, so that nothing is put off to somebody else's turn. What is sent to Redis meanwhile is in it too.
  `CPU` is the whole process's, all threads. (A call of 10 us or more needs a logarithm for its latency's slot, which
  one that does nothing does not: 0.2 us more.)
* A figure is the mean over a turn: what a caller pays with everything that comes now and then.
* Ours comes from the registry, over the connection that production's settings make, and is the breaker of DESIGN.md:
  the window of the whole cluster. Peers in memory share nothing; pybreaker on Redis shares a counter of consecutive
  failures; interlock-cb on Redis shares trips.
* Trips: two processes; the clock runs from the guarded function's failure in one to the state's change in the other.
  Busy is 8 threads, making guarded calls that each take some 0.1 ms of Python, without a pause: all that one
  process can do, and more than the gateway has to. `unheard` and `store held for lost` count trips that stayed in
  one process, because it took its own want of CPU for a Redis that does not answer.
  pybreaker has no row there: it tells nobody, each call asks Redis.

Benchmarks are never tests: a goal that is missed is printed, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import propagation, report, turns
from tests.benchmarks.contestants import (
    INTERLOCK,
    INTERLOCK_REDIS,
    OURS,
    OURS_ALONE,
    PYBREAKER,
    PYBREAKER_REDIS,
    ROUND_TRIP,
    STATUS,
    STATUS_ALONE,
    UNGUARDED,
)
from tests.benchmarks.players import playing, undertaker
from tests.benchmarks.turns import Effort, Goal, Scenario
from tests.programs import RedisServer

PEERS = (OURS_ALONE, PYBREAKER, PYBREAKER_REDIS, INTERLOCK, INTERLOCK_REDIS)
GOALS = (Goal(peer=PYBREAKER, at_most=2), Goal(peer=INTERLOCK_REDIS, at_most=1))

SCENARIOS = (
    Scenario(
        name="closed-1",
        title="Guarded call, closed, 1 thread",
        subject=OURS,
        peers=(*PEERS, ROUND_TRIP, UNGUARDED),
        goals=(*GOALS, Goal(peer=PYBREAKER_REDIS, at_most=1 / 70)),
    ),
    Scenario(
        name="rejected-1",
        title="Guarded call, rejected, 1 thread",
        subject=OURS,
        peers=(*PEERS, ROUND_TRIP),
        rejected=True,
        goals=GOALS,
    ),
    Scenario(
        name="closed-8",
        title="Guarded call, closed, 8 threads",
        subject=OURS,
        peers=(*PEERS, UNGUARDED),
        threads=8,
        goals=GOALS,
    ),
    Scenario(
        name="rejected-8",
        title="Guarded call, rejected, 8 threads",
        subject=OURS,
        peers=PEERS,
        rejected=True,
        threads=8,
        goals=GOALS,
    ),
    Scenario(
        name="slow-8",
        title=f"Guarded call of {turns.SLOW_SECONDS} s on 8 threads (wall time over calls)",
        subject=OURS,
        peers=(PYBREAKER, INTERLOCK_REDIS, UNGUARDED),
        slow=True,
        threads=8,
    ),
    Scenario(
        name="status",
        title="A status read (no peer reads a cluster's)",
        subject=STATUS,
        peers=(STATUS_ALONE, ROUND_TRIP),
    ),
)
"""Another row is another name here; another library another maker in contestants.py."""

FULL = Effort(rounds=11, turn_seconds=0.3, trips=200, polled_trips=8, course_seconds=15)
TINY = Effort(rounds=2, turn_seconds=0.002, trips=2, polled_trips=1, course_seconds=5)


def main() -> None:
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()
    effort = TINY if asked.tiny else FULL
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            with playing([(undertaker, server.process.pid)]):
                _run(asked, effort, server.url)
        finally:
            server.kill()
    print(f"{time.monotonic() - began:.0f} s. {asked.json}")


def _run(asked: argparse.Namespace, effort: Effort, url: str) -> None:
    for line in (*report.machine(url), ""):
        print(line, flush=True)
    prices = {}
    for scenario in (each for each in SCENARIOS if each.name.startswith(asked.only)):
        prices[scenario] = turns.measure(scenario, effort, url)
        for line in report.table(scenario, prices[scenario]):
            print(line, flush=True)
    courses = [course for course in propagation.COURSES if course.name.startswith(asked.only)]
    trips = {course: propagation.measure(course, effort, url) for course in courses}
    for line in report.trips_table(trips) if trips else ():
        print(line, flush=True)
    report.keep(asked.json, prices, trips)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name starts so: closed, rejected-8, trip ...")
    parser.add_argument("--tiny", action="store_true", help="run everything once, for no figure worth reading")
    default = Path("var/bench") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    parser.add_argument("--json", type=Path, default=default, help="where to keep the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
