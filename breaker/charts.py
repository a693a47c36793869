"""Charts of a breaker's numbers over time, as geometry that a template writes as SVG.

A plot is 1,000 units wide and 100 high and is stretched to its place; what is written beside it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.utils.translation import gettext as _

from breaker.engine.machine import State
from breaker.engine.window import Totals
from breaker.history import HOUR
from breaker.timeline import Point, Span

WIDTH, HEIGHT = 1000, 100
PIXELS = 140
"""How high a plot is shown."""
TOP = 8
"""Pixels above it."""
NONE = "-"
HATCHED = ("timeouts", "rejects")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    at: datetime
    place: str
    """From the left, in percent."""
    text: str
    """In UTC; the script writes it in the reader's zone."""
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A line across, and what is written beside it."""

    y: str
    pixel: int
    """Where its text stands."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shade:
    """A time in which the breaker was OPEN or HALF_OPEN."""

    tone: str
    x: str
    width: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line, or one layer of bars."""

    key: str
    """The column of the table that has its numbers."""
    label: str
    path: str
    value: str
    """Over the whole span."""
    hatched: bool = False
    """Told by a pattern too, for who cannot tell its colour from its neighbour's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    key: str
    title: str
    story: str
    """In a sentence, for who cannot see it."""
    kind: str
    """line or bars."""
    series: Sequence[Series]
    levels: Sequence[Level]
    threshold: Level | None = None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Time from left to right."""

    since: datetime
    until: datetime
    step: timedelta

    def x(self, at: datetime) -> float:
        return WIDTH * ((at - self.since) / (self.until - self.since))

    @property
    def ticks(self) -> list[Tick]:
        apart = next(some for some in _APART if (self.until - self.since) / some <= 5)
        epoch = datetime.fromtimestamp(0, UTC)
        at = self.since + (epoch - self.since) % apart
        found = []
        while at <= self.until:
            place = self.x(at) / WIDTH * 100
            text = f"{at:%H:%M}" if apart < 24 * HOUR else f"{at.day} {at:%b}"
            anchor = "start" if place < 4 else "end" if place > 96 else "middle"
            found.append(Tick(at=at, place=f"{place:.2f}", text=text, anchor=anchor))
            at += apart
        return found

    @property
    def by_day(self) -> bool:
        return self.until - self.since > 2 * 24 * HOUR


_APART = [timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 1440, 2 * 1440, 7 * 1440, 30 * 1440, 400 * 1440)]


def shades(axis: Axis, spans: Iterable[Span]) -> list[Shade]:
    """The times not CLOSED. Those that would lie within one unit are one: a chart has no room for more."""
    found: list[tuple[str, float, float]] = []
    for span in spans:
        if span.state is State.CLOSED:
            continue
        tone = "open" if span.state is State.OPEN else "half"
        start, end = axis.x(span.since), axis.x(span.until)
        if found and end - found[-1][1] < 1:
            start, tone = found[-1][1], "open" if "open" in (tone, found[-1][0]) else tone
            found.pop()
        found.append((tone, start, max(end, start + 1)))
    return [Shade(tone=tone, x=f"{start:.1f}", width=f"{end - start:.1f}") for tone, start, end in found]


def charts(points: Sequence[Point], axis: Axis, threshold: float | None) -> list[Chart]:
    """Error rate, latency, and what became of the calls."""
    every = _together(points)
    return [_errors(points, axis, every, threshold), _latency(points, axis, every), _outcomes(points, axis, every)]


def _errors(points: Sequence[Point], axis: Axis, every: Totals, threshold: float | None) -> Chart:
    rated = [(p.at, p.totals.deciding_error_rate if p.totals.completed else None) for p in points]
    worst = max((rate for _at, rate in rated if rate is not None), default=None)
    return Chart(
        key="errors",
        title=_("Error rate"),
        story=_("No call was completed.")
        if worst is None
        else _("%(rate).1f %% of the completed calls failed; at worst %(worst).1f %%.")
        % {"rate": every.deciding_error_rate, "worst": worst},
        kind="line",
        series=[
            Series(
                key="errorRate",
                label=_("errors"),
                path=_line(rated, axis, 100),
                value=percent(every.deciding_error_rate) if every.completed else NONE,
            )
        ],
        levels=_levels(100, lambda value: f"{value:g} %"),
        threshold=None if threshold is None else _level(threshold, 100, _("opens above %g %%") % threshold),
    )


def _latency(points: Sequence[Point], axis: Axis, every: Totals) -> Chart:
    ranks = (50, 95, 99)
    known = {
        rank: [(p.at, p.totals.percentile(rank / 100) * 1000 if p.totals.histogram else None) for p in points]
        for rank in ranks
    }
    top = nice(max((value for line in known.values() for _at, value in line if value is not None), default=0))
    slow = milliseconds(every.percentile(0.95) * 1000)
    return Chart(
        key="latency",
        title=_("Latency"),
        story=_("95 %% of the calls took at most %s.") % slow if every.histogram else _("No latency is known."),
        kind="line",
        series=[
            Series(
                key=f"p{rank}",
                label=f"p{rank}",
                path=_line(known[rank], axis, top),
                value=milliseconds(every.percentile(rank / 100) * 1000) if every.histogram else NONE,
            )
            for rank in ranks
        ],
        levels=_levels(top, milliseconds),
    )


def _outcomes(points: Sequence[Point], axis: Axis, every: Totals) -> Chart:
    layers = (
        ("successes", _("successes")),
        ("failures", _("failures")),
        ("timeouts", _("timeouts")),
        ("rejects", _("rejects")),
    )
    top = nice(max((point.totals.fires for point in points), default=0))
    below = [0] * len(points)
    series = []
    for key, label in layers:
        counts = [getattr(point.totals, key) for point in points]
        bars = [
            _bar(axis, point.at, HEIGHT * under / top, HEIGHT * count / top)
            for point, under, count in zip(points, below, counts, strict=True)
            if count
        ]
        below = [under + count for under, count in zip(below, counts, strict=True)]
        value, hatched = f"{getattr(every, key):,}", key in HATCHED
        series.append(Series(key=key, label=label, path="".join(bars), value=value, hatched=hatched))
    return Chart(
        key="outcomes",
        title=_("Calls per %s") % _step(axis.step),
        story=", ".join(f"{each.value} {each.label}" for each in series) + ".",
        kind="bars",
        series=series,
        levels=_levels(top, lambda value: f"{value:,.0f}" if value == int(value) else ""),
    )


def _together(points: Iterable[Point]) -> Totals:
    every = Totals()
    for point in points:
        counted = point.totals
        every.successes += counted.successes
        every.failures += counted.failures
        every.timeouts += counted.timeouts
        every.rejects += counted.rejects
        every.histogram.update(counted.histogram)
    return every


# -- geometry ----------------------------------------------------------------------------------------------------------


def _line(values: Sequence[tuple[datetime, float | None]], axis: Axis, top: float) -> str:
    """Through the middle of each step; nothing where nothing is known, and a dot for a step between two such."""
    path, joined = [], False
    for at, value in values:
        if value is None:
            joined = False
            continue
        middle = min(axis.x(at + axis.step / 2), float(WIDTH))
        to = f"{middle:.1f} {HEIGHT - HEIGHT * value / top:.1f}"
        path.append(f"L{to}" if joined else f"M{to}h.1")
        joined = True
    return "".join(path)


def _bar(axis: Axis, at: datetime, below: float, height: float) -> str:
    left, right = axis.x(at), axis.x(at + axis.step)
    width = (right - left) * (0.8 if right - left > 8 else 1)
    return f"M{left:.1f} {HEIGHT - below:.1f}h{width:.1f}v-{height:.2f}h-{width:.1f}z"


def nice(highest: float) -> float:
    """The least of 1, 2, 4, 5, 8, 10, 20 … that is not below it: its half is as easy to read."""
    if highest <= 0:
        return 1
    ten: float = 10.0 ** math.floor(math.log10(highest))
    return next(ten * step for step in (1, 2, 4, 5, 8, 10) if ten * step >= highest * 0.9999)


def _levels(top: float, say: Callable[[float], str]) -> list[Level]:
    return [_level(value, top, say(value)) for value in (0, top / 2, top)]


def _level(value: float, top: float, text: str) -> Level:
    part = 1 - value / top
    return Level(y=f"{HEIGHT * part:.1f}", pixel=round(TOP + PIXELS * part), text=text)


def percent(value: float) -> str:
    return f"{value:.1f} %"


def milliseconds(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f} s"
    if value >= 1000:
        return f"{value / 1000:.2f}".rstrip("0").rstrip(".") + " s"
    return f"{value:.0f} ms" if value >= 10 or value == 0 else f"{value:.1f} ms"


def _step(step: timedelta) -> str:
    minutes = int(step.total_seconds() // 60)
    if minutes == 1:
        return _("minute")
    if minutes < 60:
        return _("%d minutes") % minutes
    return _("hour") if minutes == 60 else _("%d hours") % (minutes // 60)
