"""What a guarded call costs, beside what others' cost, in one run: `make bench`.

Method
* Each contestant lives in a process of its own, so that no library's background thread takes another's time. They
  press in turns, in a new random order each round, never two at once. Where a table says "over the rounds", a ratio is
  made of two turns of one round, and the table shows the median over the rounds and p10..p90: a machine that is slow
  for a while is slow for both. (pyperf runs one benchmark to its end before the next, which may be minutes apart; its
  file format and tools are used for what is kept.)
* All guard the same function, which does nothing, by `breaker.call(function)` or what stands for it, with the library's
  own defaults and the thread switch interval that the gateway sets. The loop and the function are in every figure:
  `unguarded` shows how much that is. A turn that was not wholly admitted (or wholly rejected) ends the run.
* Ours counts in the background. A turn lasts over two of its beats, and its clock stops only when all of its calls have
  been counted, so that nothing is put off to somebody else's turn. What is sent to Redis meanwhile is in it too.
  `CPU` is the whole process's, all threads. (A call of 10 us or more needs a logarithm for its latency's slot, which
  one that does nothing does not: 0.2 us more.)
* A figure is the mean over a turn: what a caller pays with everything that comes now and then.
* Ours comes from the registry, over the connection that production's settings make, and is the breaker of DESIGN.md:
  the window of the whole cluster. Peers in memory share nothing; pybreaker on Redis shares a counter of consecutive
  failures; interlock-cb and baldur-framework on Redis share trips, the latter with no process that runs already;
  nopanic-redis shares all. opossum is JavaScript on Node: its calls are asynchronous, and instead of threads so many
  overlap on one.
* What is measured otherwise is said at the top of its file: propagation.py, crowds.py, traffic.py, deadline.py,
  gateway.py, watching.py, deferred.py, tracing.py.

Benchmarks are never tests: a goal that is missed is printed, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import kept, plan, report
from tests.benchmarks.course import Book, Course, Effort
from tests.benchmarks.players import playing, undertaker
from tests.programs import RedisServer

FULL = Effort(
    rounds=7,
    turn_seconds=0.25,
    trips=120,
    polled_trips=8,
    course_seconds=6,
    window_seconds=2,
    windows=2,
    background_windows=5,
)
TINY = Effort(
    rounds=2,
    turn_seconds=0.002,
    trips=2,
    polled_trips=1,
    course_seconds=2,
    window_seconds=0.1,
    windows=1,
    background_windows=1,
    slow_seconds=0.02,
    share=0.01,
)


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
    facts = kept.circumstances(url) | {"command": _command(asked)}
    print(*report.machine(facts), "", sep="\n", flush=True)
    book: Book = {}
    for course in _measured(asked.only.split(","), effort, url, book):
        print(*report.table(course, book[course.name]), sep="\n")
        for _, verdict in report.verdicts([course], book):
            print(report.verdict_line(verdict))
        print(flush=True)
        kept.keep(asked.json, plan.COURSES, book, facts)
    print(*report.summary(plan.COURSES, book), sep="\n")


def _measured(beginnings: list[str], effort: Effort, url: str, book: Book) -> Iterator[Course]:
    """Course after course, its figures in the book."""
    for session in plan.SESSIONS:
        wanted = [course for course in session.courses if course.name.startswith(tuple(beginnings))]
        for course, figures in session.measure(wanted, effort, url) if wanted else ():
            book[course.name] = figures
            yield course


def _command(asked: argparse.Namespace) -> str:
    options = [f"--only {asked.only}"] * bool(asked.only) + ["--tiny"] * asked.tiny
    return f'make bench ARGS="{" ".join(options)}"' if options else "make bench"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    names = ", ".join(course.name for course in plan.COURSES)
    parser.add_argument("--only", default="", help=f"courses whose name starts so, several by comma: {names}")
    parser.add_argument("--tiny", action="store_true", help="run everything once, for no figure worth reading")
    default = Path("var/bench") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    parser.add_argument("--json", type=Path, default=default, help="where to keep the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
