"""Guarded calls against the clock: contestants press in turns, so that each stands beside its peers at any moment."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks import contestants
from tests.benchmarks.contestants import Guard
from tests.benchmarks.players import Player, playing

SLOW_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Goal:
    """How many times a peer's price ours may be."""

    peer: str
    at_most: float


@dataclass(frozen=True, kw_only=True)
class Scenario:
    name: str
    title: str
    subject: str
    """Whose price is set beside the others'."""
    peers: tuple[str, ...]
    rejected: bool = False
    slow: bool = False
    """The guarded function takes SLOW_SECONDS, and each thread calls it once a turn."""
    threads: int = 1
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure."""

    rounds: int
    turn_seconds: float
    trips: int
    polled_trips: int
    """For peers that hear of a trip by asking each second."""
    course_seconds: float
    """A course that takes longer ends with fewer trips."""


@dataclass(kw_only=True)
class Prices:
    """Seconds per call, one value per round: the same place in two lists is the same moment of the run."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of all of the process's threads."""


def measure(scenario: Scenario, effort: Effort, url: str) -> dict[str, Prices]:
    names = [scenario.subject, *scenario.peers]
    prices = {name: Prices() for name in names}
    order = random.Random(scenario.name)
    with playing([(presser, name, scenario, effort.turn_seconds, url) for name in names]) as players:
        for _ in range(3 if scenario.slow else effort.rounds):
            turns = list(zip(names, players, strict=True))
            order.shuffle(turns)
            for name, player in turns:
                _take(player, prices[name])
    return prices


def _take(player: Player, prices: Prices) -> None:
    wall, cpu = player.ask("press")
    prices.wall.append(wall)
    prices.cpu.append(cpu)


# -- in the contestant's process ---------------------------------------------------------------------------------------


def presser(name: str, scenario: Scenario, turn_seconds: float, url: str) -> Generator[Any, Any, None]:
    """Makes the contestant, warms up, and then takes a turn each time it is told to."""
    guard = contestants.MAKERS[name](f"bench-{scenario.name}", url)
    if scenario.rejected and guard.rejection:
        guard.trip()
    func = functools.partial(time.sleep, SLOW_SECONDS) if scenario.slow else contestants.answer
    calls = scenario.threads if scenario.slow else _calls_for(turn_seconds, guard, func, scenario)
    told = yield "ready"
    while told:
        wall, cpu = press(guard, func, calls, scenario)
        told = yield wall / calls, cpu / calls


def _calls_for(seconds: float, guard: Guard, func: Callable[[], Any], scenario: Scenario) -> int:
    """So many calls fill a turn; finding out is the warm-up."""
    calls = scenario.threads
    while (spent := press(guard, func, calls, scenario)[0]) < seconds / 2:
        calls *= 2
    per_thread = max(1, round(calls * seconds / spent / scenario.threads))
    return per_thread * scenario.threads


def press(guard: Guard, func: Callable[[], Any], calls: int, scenario: Scenario) -> tuple[float, float]:
    """So many calls from the scenario's threads: seconds by the wall, and of CPU."""
    refused: list[int] = []
    each = calls // scenario.threads
    ready = threading.Barrier(scenario.threads)

    def press_with_all() -> None:
        ready.wait()
        refused.append(_press(guard, func, each))

    others = [threading.Thread(target=press_with_all, daemon=True) for _ in range(scenario.threads - 1)]
    for thread in others:
        thread.start()
    ready.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    refused.append(_press(guard, func, each))
    for thread in others:
        thread.join()
    guard.settle()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    expected = calls if scenario.rejected and guard.rejection else 0
    if sum(refused) != expected:
        raise AssertionError(f"{sum(refused)} of {calls} calls were rejected, not {expected}")
    return wall, cpu


def _press(guard: Guard, func: Callable[[], Any], calls: int) -> int:
    call, rejection, refused = guard.call, guard.rejection, 0
    for _ in range(calls):
        try:
            call(func)
        except rejection:
            refused += 1
    return refused
