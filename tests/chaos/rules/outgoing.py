"""What may go out to MIFOS: nothing while a breaker is open, one trial while it is half open, nothing twice."""

from collections import Counter, defaultdict
from itertools import pairwise

from breaker.engine.stores.base import LEASE_MS
from breaker.engine.sync import IDLE_BEAT
from tests.chaos.recording import Arrival, Call, Recording
from tests.chaos.rules import Found
from tests.chaos.views import SILENT_LOSS, all_spans, bound

LEASE = LEASE_MS / 1000

Trial = tuple[Call, Arrival]
Times = list[tuple[float, float]]


def nothing_goes_out_of_an_open_breaker(recording: Recording) -> Found:
    """A call that was sent when its worker knew better, and reached MIFOS before the door was half open."""
    for breaker, span in all_spans(recording, "OPEN"):
        for call in recording.sent(recording.calls_of[span.pid, breaker], span.start, span.end):
            arrival = recording.arrival.get(call.id)
            if arrival is not None and arrival.at < span.end:
                yield f"{breaker} had been OPEN for worker {span.pid}", arrival.at, (call, arrival, span)


def one_trial_a_generation(recording: Recording) -> Found:
    """In the cluster; and of each worker while it is alone."""
    for breaker in recording.breakers:
        for times in half_open(recording, breaker).values():
            for before, after in pairwise(trials(recording, breaker, times)):
                if not _ended_by_force(recording, before, after):
                    yield f"{breaker} had a second trial", after[1].at, (*before, *after, *times)
    for breaker, span in all_spans(recording, "HALF_OPEN"):
        calls = recording.calls_of[span.pid, breaker] if span.alone else []
        found = [row for call in calls if (row := recording.arrival.get(call.id)) and span.start <= row.at < span.end]
        if len(found) > 1:
            said = f"{breaker} had {len(found)} trials of worker {span.pid}, which was alone"
            yield said, found[1].at, (span, *found)


def half_open(recording: Recording, breaker: str) -> dict[str, Times]:
    """When Redis had the breaker half open, by generation: one may come back from what a process knew."""
    found: dict[str, Times] = defaultdict(list)
    for event, after in pairwise([*recording.events_of[breaker], None]):
        assert event is not None
        if event.state == "HALF_OPEN":
            found[event.id].append((event.at, after.at if after is not None else float("inf")))
    return found


def trials(recording: Recording, breaker: str, times: Times) -> list[Trial]:
    """Calls that reached MIFOS then, but those of workers that were alone, and stragglers from before it opened."""
    late = recording.policy(breaker).reset_timeout / 2
    found = [
        (call, arrival)
        for start, end in times
        for call in recording.sent(recording.calls_to[breaker], start - late, end)
        if (arrival := recording.arrival.get(call.id)) and start <= arrival.at < end
    ]
    return sorted((trial for trial in found if not _alone(recording, *trial)), key=lambda trial: trial[1].at)


def _alone(recording: Recording, call: Call, arrival: Arrival) -> bool:
    """Whether its worker may have been without Redis; nobody's call counts as such in Redis's bad times."""
    pid, since = recording.worker(call), call.sent - SILENT_LOSS
    if pid is None:
        return recording.touched(since, arrival.at + SILENT_LOSS) is not None
    return recording.is_alone(pid, since, arrival.at)


def _ended_by_force(recording: Recording, before: Trial, after: Trial) -> bool:
    """Whether the first trial's lease may have ended without an outcome: its holder was killed and the lease ran out,
    or Redis was away, so that the holder could not renew it or had to decide alone."""
    arrived = before[1].at
    killed_at = recording.died.get(recording.worker(before[0]) or 0)
    if killed_at is not None and arrived <= killed_at:
        # Its last renewal may have been an idle beat before its holder's death.
        return after[1].at >= killed_at + LEASE - IDLE_BEAT - bound(recording, killed_at)
    return recording.touched(arrived, after[1].at, "kill", "pause") is not None


def nothing_is_sent_twice(recording: Recording) -> Found:
    for id, times in Counter(arrival.id for arrival in recording.arrivals).items():
        if id in recording.call and times > 1:
            rows = tuple(arrival for arrival in recording.arrivals if arrival.id == id)
            yield f"MIFOS got {id} {times} times", rows[1].at, rows
