"""Calls against the clock: contestants press in turns, so that each stands beside its peers at any moment."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import contestants, opossum
from tests.benchmarks.contestants import Guard
from tests.benchmarks.course import Course, Effort, Figure, Measured
from tests.benchmarks.players import Player, playing

SLOW_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Drill(Course):
    """A course of calls that follow each other without a pause."""

    in_rounds: bool = True
    rejected: bool = False
    slow: bool = False
    """The guarded function takes a while, and each thread calls it once a turn."""
    threads: int = 1


def measure(drills: Sequence[Course], effort: Effort, url: str) -> Measured:
    for drill in drills:
        assert isinstance(drill, Drill)
        contestants.empty(url)
        yield drill, press_in_turns(drill, effort, url)


def press_in_turns(drill: Drill, effort: Effort, url: str) -> dict[str, Figure]:
    """A mean over a turn for each round, of the wall's time; "CPU" is that of all of the process's threads."""
    figures = {name: Figure(missing=contestants.missing(name)) for name in drill.rows}
    names = [name for name in drill.rows if not figures[name].missing]
    cpu: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(drill.name)
    with playing([(presser, name, drill, effort, url) for name in names]) as players:
        for _ in range(min(effort.rounds, SLOW_ROUNDS) if drill.slow else effort.rounds):
            turns: list[tuple[str, Player]] = list(zip(names, players, strict=True))
            order.shuffle(turns)
            for name, player in turns:
                wall, spent = player.ask("press")
                figures[name].values.append(wall)
                cpu[name].append(spent)
    for name in names:
        figures[name].beside["CPU"] = Figure(values=cpu[name]).median
    return figures


# -- in the contestant's process ---------------------------------------------------------------------------------------

Press = Callable[[int], tuple[float, float, int]]
"""Makes so many calls: seconds by the wall and of CPU, and how many were rejected."""


def presser(name: str, drill: Drill, effort: Effort, url: str) -> Generator[Any, Any, None]:
    """Makes the contestant, warms up, and then takes a turn each time it is told to."""
    with _ready(name, drill, effort, url) as (press, rejects):
        calls = drill.threads if drill.slow else _calls_for(effort.turn_seconds, press, drill.threads)
        told = yield "ready"
        while told:
            wall, cpu, refused = press(calls)
            if refused != (calls if rejects else 0):
                raise AssertionError(f"{refused} of {calls} calls were rejected, not {calls if rejects else 0}")
            told = yield wall / calls, cpu / calls
            if not drill.slow:  # others warmed up beside it, so that it took itself for slower than it is
                calls = _whole(calls * effort.turn_seconds / wall, drill.threads)


@contextlib.contextmanager
def _ready(name: str, drill: Drill, effort: Effort, url: str) -> Iterator[tuple[Press, bool]]:
    """What makes its calls, tripped where it shall reject, and whether it now does."""
    if name == contestants.OPOSSUM:
        with opossum.node() as node:
            if drill.rejected:
                node.trip()
            slow = effort.slow_seconds if drill.slow else 0.0
            yield functools.partial(node.press, at_once=drill.threads, slow=slow), drill.rejected
        return
    guard = contestants.make(name, f"bench-{drill.name}", url, share=effort.share)
    if drill.rejected and guard.rejection:
        guard.trip()
    func = functools.partial(time.sleep, effort.slow_seconds) if drill.slow else contestants.answer
    yield functools.partial(press_threads, guard, func, drill.threads), drill.rejected and bool(guard.rejection)


def _calls_for(seconds: float, press: Press, threads: int) -> int:
    """So many calls fill a turn; finding out is the warm-up."""
    calls = threads
    while (spent := press(calls)[0]) < seconds / 2:
        calls *= 2
    return _whole(calls * seconds / spent, threads)


def _whole(calls: float, threads: int) -> int:
    return max(1, round(calls / threads)) * threads


def press_threads(guard: Guard, func: Callable[[], Any], threads: int, calls: int) -> tuple[float, float, int]:
    refused: list[int] = []
    each = calls // threads
    ready = threading.Barrier(threads)

    def press_with_all() -> None:
        ready.wait()
        refused.append(_press(guard, func, each))

    others = [threading.Thread(target=press_with_all, daemon=True) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    ready.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    refused.append(_press(guard, func, each))
    for thread in others:
        thread.join()
    guard.settle()
    return time.perf_counter() - wall, time.process_time() - cpu, sum(refused)


def _press(guard: Guard, func: Callable[[], Any], calls: int) -> int:
    call, rejection, refused = guard.call, guard.rejection, 0
    for _ in range(calls):
        try:
            call(func)
        except rejection:
            refused += 1
    return refused
