"""When states change, and who hears of it: breakers open when they must, turn in time, and each turn is told once."""

from collections import defaultdict
from itertools import pairwise

from breaker.engine.sync import IDLE_BEAT, PATIENCE
from tests.chaos.recording import LOG_DELAY, Call, Event, Recording, Told
from tests.chaos.rules import Found
from tests.chaos.views import LOG_LAG, PROPAGATION, SILENT_LOSS, all_spans, bound

FAILED = ("failures", "timeouts")
PASSED = ("successes", "")
"""A call that broke may have succeeded."""
CLOCK = 0.002
"""Seconds by which moments cut to milliseconds may differ."""
LEARNT = PATIENCE / 2
"""Seconds by which a worker's idea of Redis's clock may be off: half of a round trip, given up after PATIENCE."""


def opens_when_it_must(recording: Recording) -> Found:
    """A breaker whose failures alone are too many, whatever is in doubt about successes, is open soon after."""
    for breaker in recording.breakers:
        calls = recording.calls_to[breaker]
        for event, after in pairwise([*recording.events_of[breaker], None]):
            assert event is not None
            if event.state == "CLOSED":
                start, end = event.at + bound(recording, event.at), after.at if after else float("inf")
                failure = _one_too_many(recording, breaker, calls, (event.at, start, end))
                if failure is not None and not _in_doubt(recording, start, failure.answered):
                    yield f"{breaker} stayed CLOSED", failure.answered, (event, after, failure)
    for breaker, span in all_spans(recording, "CLOSED"):
        if span.alone:
            calls = recording.calls_of[span.pid, breaker] + recording.calls_of[None, breaker]
            # What it counted of this generation before it went alone counts on.
            began = min((event.at for event in recording.events_of[breaker] if event.id == span.id), default=span.start)
            failure = _one_too_many(recording, breaker, calls, (began, span.start, span.end))
            if failure is not None:
                said = f"{breaker} stayed CLOSED for worker {span.pid}, which was alone"
                yield said, failure.answered, (failure, span)


def _one_too_many(
    recording: Recording, breaker: str, calls: list[Call], times: tuple[float, float, float]
) -> Call | None:
    """The failure with which the window of a generation was beyond doubt beyond the threshold, and long before its
    end: so many failures of it, and so few successes that may belong to it. `times`: when the generation began, since
    when the worker surely had it, and until when."""
    began, start, end = times
    policy = recording.policy(breaker)
    bucket = policy.rolling_count_timeout / policy.rolling_count_buckets
    surely, perhaps = policy.rolling_count_timeout - bucket - IDLE_BEAT, policy.rolling_count_timeout + IDLE_BEAT
    own = [call for call in calls if call.answered >= began and call.sent <= end]
    for failure in own:
        now = failure.answered
        if failure.counts_as not in FAILED or failure.sent < start or now + bound(recording, now) >= end:
            continue
        failed = sum(
            one.counts_as in FAILED and max(start, now - surely) <= one.sent and one.answered <= now for one in own
        )
        passed = sum(
            one.counts_as in PASSED and one.answered >= now - perhaps and one.sent <= now + PROPAGATION for one in own
        )
        share = 100 * failed / (failed + passed) if failed else 0
        if failed >= policy.volume_threshold and share > policy.error_threshold_percentage:
            return failure
    return None


def _in_doubt(recording: Recording, start: float, at: float) -> bool:
    """Whether Redis may not have all that was counted: it was away or emptied, or a worker without it."""
    end = at + bound(recording, at)
    away = recording.is_anyone_alone(start - SILENT_LOSS, end)
    return away or recording.touched(start - SILENT_LOSS, end) is not None


def turns_in_time(recording: Recording) -> Found:
    """OPEN lasts its time and no longer, calls or none: since a worker found that it must, and wrote so in time."""
    for breaker in recording.breakers:
        wanted = recording.policy(breaker).reset_timeout
        for event, after in pairwise(recording.events_of[breaker]):
            lasted, slack = after.at - event.since, bound(recording, event.at) + bound(recording, after.at)
            if recording.touched(event.at - SILENT_LOSS, after.at) or recording.is_anyone_alone(event.at, after.at):
                continue
            turned = (event.state, after.state, event.transition) == ("OPEN", "HALF_OPEN", True)
            delay = event.at - event.since
            if event.transition and not event.alone and not -LEARNT <= delay <= bound(recording, event.at):
                yield f"{breaker} is {event.state} since {event.since:.3f} s", event.at, (event,)
            if turned and not wanted - CLOCK <= lasted <= wanted + slack:
                yield f"{breaker} was OPEN for {lasted:.3f} s", after.at, (event, after)


def each_transition_is_told_once(recording: Recording) -> Found:
    """In the log and in the events, and both say the same; one made alone in the log only, and marked so."""
    lines: dict[str, list[Told]] = defaultdict(list)
    events: dict[str, list[Event]] = defaultdict(list)
    for told in recording.told:
        lines[told.id].append(told)
    for event in recording.events:
        if event.transition:
            events[event.id].append(event)
    for id in lines.keys() | events.keys():
        yield from _compared(recording, lines[id], events[id])


def _compared(recording: Recording, lines: list[Told], events: list[Event]) -> Found:
    rows = (*lines, *events)
    at = rows[0].at
    if len(lines) > 1:
        yield "told more than once in the log", at, rows
    if len(events) > 1:
        yield "more than once in the events", at, rows
    if not lines and not _is_unheard(recording, events[0]):
        yield "in the events and not in the log", at, rows
    if not events and not lines[0].alone and not _is_unseen(recording, lines[0]):
        yield "in the log, not marked as made alone, and not in the events", at, rows
    if lines and events:
        line, event = lines[0], events[0]
        if (line.breaker, line.state, line.alone) != (event.breaker, event.state, event.alone):
            yield "log and events disagree", at, rows


def _is_unheard(recording: Recording, event: Event) -> bool:
    """Whether who made it may have been killed before its line was written."""
    return any(event.at - PATIENCE <= kill.began <= event.at + LOG_DELAY for kill in recording.kills)


def _is_unseen(recording: Recording, told: Told) -> bool:
    """Whether Redis had it and was killed before anybody could read it; or never answered, so that the transition was
    made here: who asked has then just lost Redis."""
    killed = recording.touched(told.at - PATIENCE - LOG_LAG, told.at + LOG_LAG, "kill")
    lost = any(each.pid == told.pid and abs(each.since - told.at) <= LOG_LAG for each in recording.alone)
    return killed is not None or lost
