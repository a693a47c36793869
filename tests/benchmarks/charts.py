"""The charts of docs/charts/, from the figures of a run."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks import contestants, crowds, propagation, traffic
from tests.benchmarks.course import Book, Figure, Unit, shown
from tests.benchmarks.svg import Bar, Line, bars, lines


def draw(book: Book) -> Iterator[tuple[str, str]]:
    """File name and SVG of each chart whose courses were measured."""
    charts = {
        "price.svg": price(book),
        "knowing.svg": knowing(book),
        "traffic.svg": redis(book),
        "crowds.svg": crowd(book),
    }
    return ((name, chart) for name, chart in charts.items() if chart)


def _seconds(value: float) -> str:
    return shown(value, Unit.SECONDS)


def price(book: Book) -> str:
    groups = [
        (heading, [_bar(row, figure) for row, figure in book[course].items() if row != contestants.UNGUARDED])
        for heading, course in (("closed", "closed-1"), ("rejected", "rejected-1"))
        if course in book
    ]
    return bars("A guarded call on one thread (logarithmic)", groups, _seconds) if groups else ""


def _bar(row: str, figure: Figure) -> Bar:
    return Bar(label=row, value=figure.median, ours=row == contestants.OURS)


def knowing(book: Book) -> str:
    loads = (("trip-idle", "idle"), ("trip-gthread", "gthread load"), ("trip-spin", "all spinning"))
    series = []
    for colour, (course, load) in enumerate(loads):
        own = {row: figure for row, figure in book.get(course, {}).items() if row != propagation.POLLED}
        for rank in (50, 99):
            points = [(propagation.workers(row), figure.rank(rank)) for row, figure in own.items()]
            if points:
                series.append(Line(label=f"{load}, p{rank}", points=points, dashed=rank == 99, colour=colour))
    goals = [(0.005, "goal idle, p50: 5 ms"), (0.030, "goal busy, p99: 30 ms")]
    title = "From the deciding failure to the last worker's knowing"
    return lines(title, series, x_name="workers", y_show=_seconds, goals=goals) if series else ""


def redis(book: Book) -> str:
    series = []
    for row in traffic.ROWS:
        here = [(course.rate, book[course.name].get(row)) for course in traffic.SUCCESS if course.name in book]
        points = [(rate, figure.median) for rate, figure in here if figure is not None]
        if any(asked >= 1 for _, asked in points):
            series.append(Line(label=row, points=points))
    title = "Redis commands a second (logarithmic), circuit closed"
    return lines(title, series, x_name="calls a second", y_show=lambda y: f"{y:,g}") if series else ""


def crowd(book: Book) -> str:
    series = []
    for who in (contestants.OURS, contestants.INTERLOCK_REDIS):
        for course, what in (("crowd-idle", "nobody calls"), ("crowd-busy", f"{crowds.CALLS_A_SECOND} calls/s")):
            points = [
                (count, book[course][contestants.crowd(who, count)].median)
                for count in (crowds.FEW, crowds.MANY, crowds.MOST)
                if contestants.crowd(who, count) in book.get(course, {})
            ]
            if points:
                dashed = course == "crowd-busy"
                series.append(Line(label=f"{who}, {what}", points=points, dashed=dashed, colour=len(series) // 2))
    title = "Background threads, of one core (logarithmic)"
    goals = [(0.02, "goal at 1,000: 2 %")]
    return lines(title, series, x_name="breakers", y_show=_share, goals=goals) if series else ""


def _share(value: float) -> str:
    return f"{value * 100:g} %"
