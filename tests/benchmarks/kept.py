"""What a run leaves behind: all values, in pyperf's file format, so that pyperf's tools read them too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyperf

from tests.benchmarks import contestants
from tests.benchmarks.course import Book, Course, Figure, Unit

LIBRARIES = ("pybreaker", "interlock-cb", "baldur-framework", "nopanic-redis", "redis", "django-redis")
_UNITS = {Unit.SECONDS: "second", Unit.BYTES: "byte", Unit.A_SECOND: "integer", Unit.CORES: "second"}
_FACTS = ("cpu_count", "cpu_model_name", "load_avg_1min", "platform", "python_implementation", "python_version")
_BESIDE = "beside: "
_LEAST, _NEVER = 1e-12, 1e12
"""Stand for zero and infinity, which pyperf does not keep."""


def circumstances(url: str) -> dict[str, Any]:
    """Date, machine and versions of this run."""
    found = pyperf.Run([1.0]).get_metadata()
    with contestants.connect(url) as client:
        server: dict[str, Any] = client.info("server")
    kind = "valkey" if "valkey_version" in server else "redis"
    return {
        **{fact: found[fact] for fact in _FACTS if fact in found},
        "measured_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "server": f"{kind.title()} {server[f'{kind}_version']}",
        "versions": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        **contestants.node_versions(),
    }


def keep(path: Path, courses: Sequence[Course], book: Book, facts: Mapping[str, Any], *, digits: int = 17) -> None:
    """Values in the order of the rounds, so that ratios can be made again."""
    kept = [
        pyperf.Benchmark([_run(course, row, figure, facts, digits)])
        for course in courses
        for row, figure in book.get(course.name, {}).items()
        if figure.values
    ]
    if kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        pyperf.BenchmarkSuite(kept).dump(str(path), replace=True)


def _run(course: Course, row: str, figure: Figure, facts: Mapping[str, Any], digits: int) -> pyperf.Run:
    more = {f"{_BESIDE}{name}": _rounded(value, digits) for name, value in figure.beside.items()}
    about = {"name": f"{course.name} | {row}", "description": course.title, "unit": _UNITS[course.unit]}
    values = [min(max(_rounded(value, digits), _LEAST), _NEVER) for value in figure.values]
    return pyperf.Run(values, metadata={**facts, **more, **about}, collect_metadata=False)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _read(value: float) -> float:
    if value <= _LEAST:
        return 0.0
    return math.inf if value >= _NEVER else value


def load(path: Path) -> tuple[Book, dict[str, Any]]:
    """The figures of a run, and its circumstances."""
    book: Book = {}
    facts: dict[str, Any] = {}
    for benchmark in pyperf.BenchmarkSuite.load(str(path)).get_benchmarks():
        about = benchmark.get_metadata()
        course, _, row = str(about["name"]).partition(" | ")
        beside = {name.removeprefix(_BESIDE): value for name, value in about.items() if name.startswith(_BESIDE)}
        values = [
            0.0 if value <= _LEAST else math.inf if value >= _NEVER else value for value in benchmark.get_values()
        ]
        book.setdefault(course, {})[row] = Figure(values=values, beside=beside)
        facts = {name: value for name, value in about.items() if not name.startswith(_BESIDE)}
    for own in ("name", "description", "unit"):
        facts.pop(own, None)
    return book, facts
