"""The table: ratio first, then the figures and their spread; the same as JSON that pyperf reads."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyperf

from tests.benchmarks import contestants
from tests.benchmarks.propagation import BUSY_THREADS, Course, Trips
from tests.benchmarks.turns import Goal, Prices, Scenario

LIBRARIES = ("pybreaker", "interlock-cb", "redis", "django-redis", "pyperf")


def machine(url: str) -> list[str]:
    found = _metadata()
    with contestants.connect(url) as client:
        server: dict[str, Any] = client.info("server")
    kind = "valkey" if "valkey_version" in server else "redis"
    redis_server = f"{kind.title()} {server[f'{kind}_version']}"
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {found.get('load_avg_1min', '?')} at the start",
        f"{found.get('cpu_model_name', 'unknown processor')}, {found.get('cpu_count', '?')} cores, {found['platform']}",
        f"{found['python_implementation']} {found['python_version'].split()[0]}, {redis_server} on loopback, "
        + ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    ]


def _metadata() -> dict[str, Any]:
    return dict(pyperf.Run([1.0]).get_metadata())


def table(scenario: Scenario, prices: dict[str, Prices]) -> Iterator[str]:
    ours = prices[scenario.subject].wall
    yield f"{scenario.title}"
    yield f"  {'ours / theirs':<30}{'':<29}{'a call':>9}  {'p10..p90':<18}{'CPU':>9}"
    for name, price in prices.items():
        if name == scenario.subject:
            ratio = "1"
        else:
            ratios = _ratios(ours, price.wall)
            ratio = f"{statistics.median(ratios):.3g}  ({_spread(ratios, plain)})"
        wall = duration(statistics.median(price.wall))
        cpu = duration(statistics.median(price.cpu))
        yield f"  {ratio:<30}{name:<29}{wall:>9}  {_spread(price.wall, duration):<18}{cpu:>9}"
    for goal in scenario.goals:
        yield f"  {verdict(goal, ours, prices[goal.peer].wall)}"
    yield ""


def verdict(goal: Goal, ours: Sequence[float], theirs: Sequence[float]) -> str:
    ratio = statistics.median(_ratios(ours, theirs))
    said = "OK" if ratio <= goal.at_most else "MISSED"
    return f"goal {said}: at most {goal.at_most:.3g} x {goal.peer}, is {ratio:.3g}"


def trips_table(courses: dict[Course, Trips]) -> Iterator[str]:
    yield f"From the deciding failure to another process's knowing (busy: {BUSY_THREADS} threads, no pause, see Method)"
    yield f"  {'':<36}{'trips':>6}{'p50':>9}{'p99':>9}{'max':>9}{'unheard':>9}{'store held for lost':>21}"
    for course, trips in courses.items():
        heard = trips.heard or [math.inf]
        p50, p99 = _percentile(heard, 50), _percentile(heard, 99)
        figures = "".join(f"{duration(value):>9}" for value in (p50, p99, max(heard)))
        yield f"  {course.title:<36}{len(trips.heard):>6}{figures}{trips.unheard:>9}{trips.losses:>21}"
        for rank, value, goal in ((50, p50, course.goal_p50), (99, p99, course.goal_p99)):
            if goal is not None:
                yield f"  goal {'OK' if value <= goal else 'MISSED'}: p{rank} at most {duration(goal)}"
    yield ""


def keep(path: Path, scenarios: dict[Scenario, dict[str, Prices]], courses: dict[Course, Trips]) -> None:
    """Values in the order of the rounds, so that ratios can be made again."""
    common = {key: value for key, value in _metadata().items() if key != "name"}
    kept: list[tuple[str, str, list[float], dict[str, Any]]] = []
    for course, trips in courses.items():
        if trips.heard:
            more = {"unheard": trips.unheard, "store_held_for_lost": trips.losses}
            kept.append((course.name, course.title, trips.heard, more))
    for scenario, prices in scenarios.items():
        for name, price in prices.items():
            kept.append((f"{scenario.name} | {name}", scenario.title, price.wall, {}))
            kept.append((f"{scenario.name} | {name} | cpu", scenario.title, [max(cpu, 1e-12) for cpu in price.cpu], {}))
    suite = pyperf.BenchmarkSuite(
        [
            pyperf.Benchmark(
                [
                    pyperf.Run(
                        values,
                        metadata={**common, **more, "name": name, "description": title, "unit": "second"},
                        collect_metadata=False,
                    )
                ]
            )
            for name, title, values, more in kept
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    suite.dump(str(path), replace=True)


def duration(seconds: float) -> str:
    if seconds == math.inf:
        return "never"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def plain(value: float) -> str:
    return f"{value:.3g}"


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what slowed the machine then slowed both."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _spread(values: Sequence[float], show: Any) -> str:
    return f"{show(_percentile(values, 10))}..{show(_percentile(values, 90))}"


def _percentile(values: Sequence[float], rank: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * rank // 100) - 1))]
