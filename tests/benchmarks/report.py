"""The table, as text: ratio first, then the figures and their spread, and what became of each goal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.course import Book, Course, Figure, Unit, Verdict, shown

NO_RATIO = "-"


def machine(facts: Mapping[str, Any]) -> list[str]:
    cores = f"{facts.get('cpu_model_name', 'unknown processor')}, {facts.get('cpu_count', '?')} cores"
    python = f"{facts.get('python_implementation', 'python')} {facts.get('python_version', '?').partition(' ')[0]}"
    node = f", opossum {facts['opossum']} on Node {facts['node']}" if "node" in facts else ""
    return [
        f"{facts['measured_at']}, load {facts.get('load_avg_1min', '?')} at the start",
        f"{cores}, {facts.get('platform', 'unknown platform')}",
        f"{python}, {facts['server']} on loopback, {facts['versions']}{node}",
    ]


def table(course: Course, figures: Mapping[str, Figure]) -> Iterator[str]:
    ranks = () if course.once else course.ranks
    heads = ["one value"] if course.once else ["p50", *(f"p{rank}" if rank < 100 else "worst" for rank in ranks)]
    whose = "ours" if course.ours else "first"
    how = "  (p10..p90)" if course.in_rounds else "" if course.once else ", of medians"
    yield course.title
    yield f"  {f'{whose} / this{how}':<28}{'':<40}{_columns(heads)}"
    for row in course.rows:
        figure = figures.get(row, Figure(missing="not measured"))
        if figure.missing:
            yield f"  {'':<28}{row:<40} {figure.missing}"
            continue
        values = [shown(value, course.unit) for value in (figure.median, *map(figure.rank, ranks))]
        ratio = ratio_of(course, row, {course.name: dict(figures)})
        yield f"  {ratio:<28}{row:<40}{_columns(values)}  {beside(figure)}".rstrip()


def _columns(texts: Sequence[str]) -> str:
    first, *others = texts
    return f"{first:>9}{''.join(f'{each:>10}' for each in others)}"


def ratio_of(course: Course, row: str, book: Book) -> str:
    """And its spread, after two blanks, where rounds are compared."""
    if row == course.beside(row):
        return "1"
    found = course.ratios(row, book)
    if not found.values:
        return ""
    spread = f"  ({times(found.rank(10))}..{times(found.rank(90))})" if len(found.values) > 1 else ""
    return f"{times(found.median)}{spread}"


def times(ratio: float) -> str:
    if not 0.0001 <= ratio < 1e6:  # one of the two is next to nothing
        return NO_RATIO
    return f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:.3g}" if ratio >= 0.1 else f"{ratio:.2g}"


def beside(figure: Figure) -> str:
    return ", ".join(f"{name} {_amount(name, value)}" for name, value in figure.beside.items())


def _amount(name: str, value: float) -> str:
    if name.startswith(("CPU", "first", "p50", "p99")):
        return shown(value, Unit.SECONDS)
    return shown(value, Unit.CORES) if name.startswith("share") else f"{value:.4g}"


def verdicts(courses: Sequence[Course], book: Book) -> Iterator[tuple[Course, Verdict]]:
    for course in courses:
        for goal in course.goals:
            if verdict := goal.judge(course, book):
                yield course, verdict


def verdict_line(verdict: Verdict) -> str:
    return f"  goal {'met' if verdict.met else 'MISSED'}: {verdict.goal}, is {verdict.found}"


def summary(courses: Sequence[Course], book: Book) -> Iterator[str]:
    found = list(verdicts(courses, book))
    missed = [(course, verdict) for course, verdict in found if not verdict.met]
    yield f"{len(found) - len(missed)} goals met, {len(missed)} MISSED"
    for course, verdict in missed:
        yield f"  {course.title}: {verdict.goal}, is {verdict.found}"
