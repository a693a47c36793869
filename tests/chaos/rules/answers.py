"""What callers may get: MIFOS's failures and no others, no rejection by a closed breaker, and nothing late."""

from tests.chaos.recording import LOG_DELAY, NO_ANSWER, Call, Recording
from tests.chaos.rules import Found
from tests.chaos.rules.outgoing import half_open
from tests.chaos.views import PATIENCE, PROPAGATION, SILENT_LOSS, all_spans

BUSY = 0.25
"""Seconds that two busy cores may add: a worker that is born takes one of them for a second, while the other serves
workers, Redis, MIFOS and callers. (As in tests/acceptance/test_redis_away.py.)"""
HOPS = 6
"""Threads that must wake one after the other for a call to be made: caller, poller, worker, MIFOS, and back. Each may
be as late as the canary was."""
FIRST_SECOND = 1.0
"""Seconds in which a new worker's calls also pay for its imports."""
QUICK_FAULTS = ("", "error", "reset")
"""Those that cost no time at MIFOS."""


def no_call_fails_but_by_mifos(recording: Recording) -> Found:
    """Each failure met a fault at MIFOS, or its worker was killed."""
    for call in recording.calls:
        arrival = recording.arrival.get(call.id)
        if call.status == NO_ANSWER:
            if not _was_killed(recording, call):
                yield "a connection broke and no worker was killed", call.answered, (call, arrival)
        elif call.counts_as in ("failures", "timeouts"):
            if arrival is None or not arrival.fault:
                yield f"{call.status} {call.error} that MIFOS has not made", call.answered, (call, arrival)
        elif call.counts_as == "successes" and call.status != 200:
            yield f"{call.status} {call.error} to a good call", call.answered, (call, arrival)


def _was_killed(recording: Recording, call: Call) -> bool:
    earliest, latest = call.sent - LOG_DELAY, call.answered + LOG_DELAY
    return any(kill.gateway == call.gateway and earliest <= kill.began <= latest for kill in recording.kills)


def nothing_is_rejected_by_a_closed_breaker(recording: Recording) -> Found:
    for breaker, span in all_spans(recording, "CLOSED"):
        for call in recording.sent(recording.calls_of[span.pid, breaker], span.start, span.end):
            if call.counts_as == "rejects" and call.answered <= span.end:
                yield f"{breaker} was CLOSED for worker {span.pid}", call.answered, (call, span)
    for breaker in recording.breakers:
        if recording.policy(breaker).error_threshold_percentage == 100:
            for call in recording.calls_to[breaker]:
                if call.counts_as == "rejects":
                    yield f"{breaker} never opens", call.answered, (call,)


def no_call_waits_for_redis(recording: Recording) -> Found:
    """No call takes longer than one in calm times, and what MIFOS and the promised patience may add."""
    usual = usual_seconds(recording)
    for call in recording.calls:
        if call.status == NO_ANSWER or is_early(recording, call):
            continue
        stalls = HOPS * recording.stall(call.sent, call.answered, around=0.1)
        allowed = usual + at_mifos(recording, call) + patience(recording, call) + BUSY + stalls
        if call.seconds > allowed:
            said = f"{call.seconds:.3f} s instead of {allowed:.3f} s at most (usual are {usual:.3f} s)"
            yield said, call.answered, (call, recording.arrival.get(call.id))


def usual_seconds(recording: Recording) -> float:
    """What 99 of 100 calls take in calm times, when nothing is wrong with Redis or MIFOS."""
    calm = sorted(
        call.seconds
        for call in recording.calls
        if call.status == 200
        and not _fault(recording, call)
        and not recording.touched(call.sent - SILENT_LOSS, call.answered + SILENT_LOSS)
    )
    return calm[len(calm) * 99 // 100] if calm else 0.0


def at_mifos(recording: Recording, call: Call) -> float:
    """Seconds that a call may spend there."""
    return 0.0 if _fault(recording, call) in QUICK_FAULTS else recording.policy(call.breaker).timeout


def patience(recording: Recording, call: Call) -> float:
    """Seconds that it may wait for Redis: a trial asks before and tells after."""
    alone = recording.is_alone(recording.worker(call), call.sent - SILENT_LOSS, call.answered)
    trial = any(
        start <= call.answered and call.sent <= end + PROPAGATION
        for times in half_open(recording, call.breaker).values()
        for start, end in times
    )
    return 2 * PATIENCE if trial or alone else PATIENCE


def _fault(recording: Recording, call: Call) -> str:
    arrival = recording.arrival.get(call.id)
    return arrival.fault if arrival is not None else ""


def is_early(recording: Recording, call: Call) -> bool:
    """Whether its worker was just born, or nobody knows who it was."""
    pid = recording.worker(call)
    return pid is None or call.sent < recording.served_first(pid) + FIRST_SECOND
