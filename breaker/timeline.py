"""What was: events, numbers over time, and how available a breaker's callers found it.

Read from the database, after what waits to be stored there has been stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from django.db.models import QuerySet
from django.utils.dateparse import parse_date, parse_datetime

from breaker import conf
from breaker.engine import machine
from breaker.engine.machine import State
from breaker.engine.policy import NAME_PATTERN
from breaker.engine.window import Totals
from breaker.history import HOUR, hour_of, summed
from breaker.models import BreakerEvent, HourSample, MinuteSample, Sample, Series
from breaker.queries import timestamp
from breaker.recorder import recorder
from breaker.registry import registry

MOST_POINTS = 1_500
MOST_MINUTES = 7 * 24 * 60 + 60
"""That one question reads, each with its histogram: a week of them takes a quarter of a second."""
MOST_MOVES = 100_000
"""Changes of state that one question reads: they take 0.7 s."""
STEPS = (60, 300, 900, 3_600, 4 * 3_600, 24 * 3_600)
"""Seconds between points to choose from, where nobody says."""
FEW_POINTS = 360
HOUR_SECONDS = 3_600
DAY = 24 * HOUR_SECONDS
LONGEST_STEP = 366 * DAY
YEARS = range(1970, 2201)
"""In which a time may lie; sums with those beside them overflow nothing."""
_STATES = [state.name for state in State]
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class BadSpan(ValueError):
    """A span or a step that cannot be; the message names the field, the value and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a breaker counted from `at` on, for one step."""

    at: datetime
    totals: Totals
    seconds_open: float

    def as_dict(self) -> dict[str, Any]:
        counted = self.totals
        return {
            "at": timestamp(self.at),
            "fires": counted.fires,
            "successes": counted.successes,
            "failures": counted.failures,
            "timeouts": counted.timeouts,
            "rejects": counted.rejects,
            "fallbacks": counted.fallbacks,
            "latencyMean": round(counted.latency_mean * 1000, 2),
            **{f"p{rank}": round(counted.percentile(rank / 100) * 1000, 2) for rank in (50, 95, 99)},
            "secondsOpen": round(self.seconds_open, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time in one state, as shown: an operator's word over the computed state."""

    state: State
    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How available a breaker was over a span; an outage lasts from an opening until it is closed."""

    availability: float
    """Percent of the time not OPEN."""
    openings: int
    seconds_open: float
    longest_outage: float
    mean_time_to_recovery: float | None
    """Seconds, over the outages that have ended; None without any."""

    def as_dict(self) -> dict[str, Any]:
        recovery = self.mean_time_to_recovery
        return {
            "availability": round(self.availability, 4),
            "openings": self.openings,
            "secondsOpen": round(self.seconds_open, 3),
            "longestOutage": round(self.longest_outage, 3),
            "meanTimeToRecovery": None if recovery is None else round(recovery, 3),
        }


# -- events ------------------------------------------------------------------------------------------------------------


def events(name: str | None = None) -> QuerySet[BreakerEvent]:
    """What happened, the newest first: to one breaker, or to all."""
    recorder.catch_up()
    found = BreakerEvent.objects.filter(namespace=conf.namespace())
    return of_breaker(found, name) if name else found


def of_breaker(found: QuerySet[BreakerEvent], name: str) -> QuerySet[BreakerEvent]:
    return found.filter(breaker=name) if _may_be(name) else found.none()


def knows(name: str) -> bool:
    """Whether there is history of a breaker of that name, though none may bear it now."""
    mine = {"namespace": conf.namespace(), "breaker": name}
    return _may_be(name) and (BreakerEvent.objects.filter(**mine).exists() or Series.objects.filter(**mine).exists())


def _may_be(name: str) -> bool:
    """PostgreSQL fails when it is asked for what is no text, such as a NUL; that is not a database that is away."""
    return NAME_PATTERN.fullmatch(name) is not None


EVENT_COLUMNS = (
    *("id", "breaker", "kind", "operation", "from", "to", "at", "actor", "source", "reason", "counts"),
    *("durationMs", "alone"),
)


def as_dict(event: BreakerEvent) -> dict[str, Any]:
    """An event as JSON has it: the columns above."""
    return {
        "id": event.pk,
        "breaker": event.breaker,
        "kind": event.kind,
        "operation": event.operation or None,
        "from": event.from_state or None,
        "to": event.to_state or None,
        "at": timestamp(event.at),
        "actor": event.actor or None,
        "source": event.source,
        "reason": event.reason or None,
        "counts": event.counts,
        "durationMs": event.duration_ms,
        "alone": event.alone,
    }


def moment(field: str, given: str) -> datetime:
    """A time as people and tools write it: ISO 8601 (UTC unless it says otherwise), seconds (or ms) since 1970, or how
    long ago. Raises BadSpan."""
    try:
        at = _moment(given)
        if at.year in YEARS:
            return at
    except (ValueError, OverflowError, OSError):
        pass
    raise BadSpan(
        f"{field}={given!r}: a time of the years {YEARS[0]} to {YEARS[-1]}, such as 2026-11-23T14:00:00Z, or how long "
        "ago, such as 24h, is needed"
    )


def _moment(given: str) -> datetime:
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", given):
        return now() - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
    if re.fullmatch(r"\d{9,13}(\.\d+)?", given):
        seconds = float(given)
        return datetime.fromtimestamp(seconds / 1000 if seconds >= 10**11 else seconds, UTC)
    at = parse_datetime(given.replace(" ", "+"))  # a "+" in a query that nobody has quoted
    if at is None and (day := parse_date(given)) is not None:
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if at is None:
        raise ValueError(given)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


# -- numbers over time -------------------------------------------------------------------------------------------------


def now() -> datetime:
    """By the shared store's clock, as far as this process knows it."""
    return datetime.fromtimestamp(registry.sync.now() / 1000, UTC)


def history(
    name: str, since: datetime, until: datetime, step: int | None = None, *, was: Sequence[Span] | None = None
) -> list[Point]:
    """What a breaker counted, each `step` seconds from `since` on; steps without a call too.

    A step is whole minutes, and above an hour whole hours, which are read then. `was`: its states in that time, from
    who has read them already. Raises BadSpan.
    """
    width = timedelta(seconds=_step(since, until, step))
    since = _floor(since, width)
    recorder.catch_up()
    gathered: dict[int, list[Sample]] = {}
    for sample in _samples(name, since, until, by_hour=width % HOUR == timedelta()):
        gathered.setdefault((sample.at - since) // width, []).append(sample)
    points = -((since - until) // width)
    opened = _seconds_open(spans(name, since, until, most=MOST_MOVES) if was is None else was, since, width, points)
    return [
        Point(
            at=since + number * width,
            totals=summed(gathered.get(number, ())),
            seconds_open=opened[number],
        )
        for number in range(points)
    ]


def _seconds_open(was: Sequence[Span], since: datetime, width: timedelta, points: int) -> list[float]:
    """Of each step."""
    seconds = [0.0] * points
    for span in was:
        if span.state is not State.OPEN:
            continue
        first, last = (span.since - since) // width, (span.until - since) // width
        for number in range(max(0, first), min(points, last + 1)):
            at = since + number * width
            seconds[number] += _overlap(span, at, at + width)
    return seconds


def floor(since: datetime, until: datetime, step: int | None = None) -> datetime:
    """Where the first point of history begins. Raises BadSpan."""
    return _floor(since, timedelta(seconds=_step(since, until, step)))


def _step(since: datetime, until: datetime, step: int | None) -> int:
    seconds = (until - since).total_seconds()
    if seconds <= 0:
        raise BadSpan(f"from={timestamp(since)}: before to={timestamp(until)} is needed")
    only_hours = since < now() - timedelta(days=conf.minute_days(), hours=1)  # and so much longer minutes are kept
    if step is None:
        days = -int(-seconds // (FEW_POINTS * DAY))
        steps = [some for some in STEPS if some >= HOUR_SECONDS or not only_hours]
        return next((some for some in steps if seconds / some <= FEW_POINTS), days * DAY)
    _check_step(step, seconds, only_hours=only_hours)
    return step


def _check_step(step: int, seconds: float, *, only_hours: bool) -> None:
    if step % 60 or not 60 <= step <= LONGEST_STEP:
        raise BadSpan(f"step={step}: whole minutes are needed, in seconds, such as 60; at most {LONGEST_STEP}")
    if step > HOUR_SECONDS and step % HOUR_SECONDS:
        near = step // HOUR_SECONDS * HOUR_SECONDS
        raise BadSpan(f"step={step}: above an hour whole hours are needed; take {near} or {near + HOUR_SECONDS}")
    if seconds / step > MOST_POINTS:
        raise BadSpan(f"step={step}: makes more than {MOST_POINTS} points; take a longer step or a shorter span")
    if step < HOUR_SECONDS and seconds / 60 > MOST_MINUTES:
        raise BadSpan(
            f"step={step}: reads more than {MOST_MINUTES} minutes; take {HOUR_SECONDS} or more, or a shorter span"
        )
    if only_hours and step < HOUR_SECONDS:
        raise BadSpan(
            f"step={step}: minutes are kept for {conf.minute_days()} days, and hours for longer; take {HOUR_SECONDS} "
            "or more, or a later beginning"
        )


def _floor(at: datetime, width: timedelta) -> datetime:
    epoch = datetime.fromtimestamp(0, UTC)
    return at - (at - epoch) % width


def _samples(name: str, since: datetime, until: datetime, *, by_hour: bool) -> list[Sample]:
    """Minutes, or hours and of those that have not been summed (or counted into since) the minutes."""
    since, until = max(since, now() - timedelta(days=conf.hour_days() + 1)), min(until, now())  # nothing is elsewhere
    mine = {"series__namespace": conf.namespace(), "series__breaker": name, "at__gte": since, "at__lt": until}
    minutes = MinuteSample.objects.filter(**mine)
    if not by_hour:
        return list(minutes)
    unsummed = {hour_of(at) for at in minutes.filter(rolled=False).values_list("at", flat=True)}
    hours = [hour for hour in HourSample.objects.filter(**mine) if hour.at not in unsummed]
    loose = [one for hour in unsummed for one in minutes.filter(at__gte=hour, at__lt=hour + HOUR)]
    return [*hours, *loose]


# -- states over time --------------------------------------------------------------------------------------------------


def spans(name: str, since: datetime, until: datetime, *, most: int | None = None) -> list[Span]:
    """The states that a breaker was in, one after the other; the future is left out. Raises BadSpan beyond `most`.

    In the order in which they were stored, which is the stream's: where the shared clock was set back, what came later
    has an earlier time.
    """
    until = min(until, now())
    moved = BreakerEvent.objects.filter(namespace=conf.namespace(), breaker=name, alone=False, to_state__in=_STATES)
    pk, state = _before(moved, since)
    began = latest = since
    found: list[Span] = []
    moves = moved.filter(at__gte=since, at__lte=until, pk__gt=pk).order_by("pk")
    for number, (at, to) in enumerate(moves.values_list("at", "to_state")[: most and most + 1]):
        if number == most:
            raise BadSpan(f"from={timestamp(since)}: {name} changed more than {most} times since; take a shorter span")
        latest = max(latest, at)
        if State[to] is not state:
            found.append(Span(state=state, since=began, until=latest))
            state, began = State[to], latest
    live = _live(name)
    if live is not None and live.state is not state and latest < live.since <= until:
        found.append(Span(state=state, since=began, until=live.since))
        state, began = live.state, live.since
    if began <= until:
        found.append(Span(state=state, since=began, until=until))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    state: State
    since: datetime


def _live(name: str) -> _Live | None:
    """A breaker's state now, if this process follows it. History may lack how it came to it: a Redis that was emptied
    while nobody was there to put back what it had."""
    circuit = registry.circuits.get(name)
    if circuit is None or not registry.sync.sharing or not circuit.snapshot.seq:  # 0: not yet what all share
        return None
    snapshot, at = circuit.snapshot, registry.sync.now()
    here = machine.standing(circuit.policy, snapshot, at)
    since = at - int(machine.stood(circuit.policy, snapshot, at)["lasted"])
    return _Live(state=here.state, since=datetime.fromtimestamp(since / 1000, UTC))


def _before(moved: QuerySet[BreakerEvent], since: datetime) -> tuple[int, State]:
    """The last event before that moment, and the state it led to. (No clock is set back by more than a day.)"""
    newest = moved.filter(at__lt=since).order_by("-at").values_list("at", flat=True).first()
    if newest is None:
        return 0, State.CLOSED
    near = moved.filter(at__lt=since, at__gte=newest - timedelta(days=1)).order_by("-pk")
    pk, to = near.values_list("pk", "to_state")[0]
    return pk, State[to]


def summary(name: str, since: datetime, until: datetime) -> Summary:
    recorder.catch_up()
    return summed_up(spans(name, since, until, most=MOST_MOVES))


def summed_up(found: Sequence[Span]) -> Summary:
    lasted = sum(span.seconds for span in found)
    opened = sum(span.seconds for span in found if span.state is State.OPEN)
    outages = _outages(found)
    ended = [seconds for seconds, has_ended in outages if has_ended]
    return Summary(
        availability=100.0 * (1 - opened / lasted) if lasted else 100.0,
        openings=len(outages),
        seconds_open=opened,
        longest_outage=max((seconds for seconds, _ in outages), default=0.0),
        mean_time_to_recovery=sum(ended) / len(ended) if ended else None,
    )


def _outages(found: Sequence[Span]) -> list[tuple[float, bool]]:
    """Seconds of each outage, and whether it has ended."""
    outages: list[tuple[float, bool]] = []
    for is_out, those in groupby(found, key=lambda span: span.state is not State.CLOSED):
        if is_out:
            some = list(those)
            outages.append((sum(span.seconds for span in some), some[-1] is not found[-1]))
    return outages


def _overlap(span: Span, since: datetime, until: datetime) -> float:
    return max(0.0, (min(span.until, until) - max(span.since, since)).total_seconds())
