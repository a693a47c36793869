"""What each worker must have known: the times in which it certainly had a breaker in one state.

Redis's events say what is so; a worker has heard of an event PROPAGATION later, unless it was deaf just then: while
Redis is away and until the worker follows it again. Without Redis a worker has what it last knew, and then what it
makes of that itself, by its log. All else is doubt, and no rule judges by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from breaker.engine.sync import HEARTBEAT, IDLE_BEAT, PATIENCE
from tests.chaos.recording import Alone, Event, Recording, Told

PROPAGATION = IDLE_BEAT + PATIENCE
"""Seconds in which every worker that hears Redis has heard of an event: the stream brings it in milliseconds, and
should that fail, the next push does (a worker with calls to count pushes every IDLE_BEAT and waits PATIENCE for it)."""
LOG_LAG = 0.05
"""Seconds that a transition made alone may be older than its line in the log."""
SILENT_LOSS = HEARTBEAT + 0.5
"""Seconds that a worker may be without Redis before it says so: it asks each HEARTBEAT, and some time at most."""


@dataclass(frozen=True, slots=True)
class Span:
    """A worker certainly had a breaker in this state from `start` to `end`."""

    pid: int
    start: float
    end: float
    state: str
    id: str
    alone: bool


def bound(recording: Recording, start: float) -> float:
    """PROPAGATION, and what the machine just then took from every thread that wanted to run."""
    return PROPAGATION + 2 * recording.stall(start, start + PROPAGATION)


def all_spans(recording: Recording, state: str) -> Iterator[tuple[str, Span]]:
    """With their breakers."""
    for breaker in recording.breakers:
        for pid in recording.pids:
            yield from ((breaker, span) for span in spans(recording, breaker, pid) if span.state == state)


def spans(recording: Recording, breaker: str, pid: int) -> list[Span]:
    """In order, without overlap."""
    ends = recording.died.get(pid, float("inf"))
    alone = sorted((each for each in recording.alone if each.pid == pid), key=lambda each: each.since)
    events = recording.events_of[breaker]
    found: list[Span] = []
    follows_from = recording.served_first(pid)
    for away in [*alone, Alone(pid=pid, since=ends)]:
        shared = list(_shared(recording, events, pid, follows_from, away.since))
        found += shared
        if away.since < ends:
            found += _alone(recording, breaker, away, _adopted(shared, away.since), ends)
        follows_from = max(follows_from, away.until)
    return [span for span in found if span.start < span.end]


def _shared(recording: Recording, events: list[Event], pid: int, start: float, end: float) -> Iterator[Span]:
    """While it follows Redis."""
    for event, after in pairwise([*events, None]):
        assert event is not None
        known = max(_heard(recording, event.at), start + bound(recording, start))
        until = min(end, after.at if after is not None else float("inf"))
        if known < until:
            yield Span(pid, known, until, event.state, event.id, alone=False)


def _heard(recording: Recording, at: float) -> float:
    """When a worker that is never alone must have heard of an event: after what is done to Redis then."""
    known = at + bound(recording, at)
    for deed in sorted(recording.redis_deeds, key=lambda deed: deed.began):
        # An emptied Redis counts its events anew, which a worker finds out at its next push.
        deaf_until = deed.ended + (HEARTBEAT if deed.lost_data else 0.0)
        if deed.began <= known and at <= deaf_until:
            known = max(known, deaf_until + bound(recording, deaf_until))
    return known


def _adopted(shared: list[Span], at: float) -> Span | None:
    """What it had when it went alone."""
    return next((span for span in shared if span.start < span.end == at), None)


def _alone(recording: Recording, breaker: str, away: Alone, adopted: Span | None, ends: float) -> Iterator[Span]:
    """While it is without Redis: what it had, then what it made itself."""
    until = min(away.until - LOG_LAG, ends)
    made: list[Told | None] = [
        *sorted(
            (t for t in recording.told if t.pid == away.pid and t.breaker == breaker and away.since <= t.at <= until),
            key=lambda told: told.at,
        ),
        None,
    ]
    if adopted is not None:
        first = made[0]
        end = first.at - _lag(recording, first.at) if first is not None else until
        yield Span(away.pid, away.since, end, adopted.state, adopted.id, alone=True)
    for told, after in pairwise(made):
        assert told is not None
        end = min(until, after.at - _lag(recording, after.at)) if after is not None else until
        yield Span(away.pid, told.at, end, told.state, told.id, alone=True)


def _lag(recording: Recording, at: float) -> float:
    return LOG_LAG + recording.stall(at - LOG_LAG, at)


def certainty(recording: Recording) -> float:
    """How much of the run the rules can judge: certain spans over the workers' lives."""
    last = max((call.answered for call in recording.calls), default=0.0)
    lived = sum(
        max(0.0, min(last, recording.died.get(pid, last)) - recording.served_first(pid)) for pid in recording.pids
    )
    sure = sum(
        max(0.0, min(span.end, last) - span.start)
        for breaker in recording.breakers
        for pid in recording.pids
        for span in spans(recording, breaker, pid)
    )
    return sure / (lived * len(recording.breakers)) if lived else 0.0
