"""What callers may get: MIFOS's failures and no others, no rejection by a closed breaker, and nothing late."""

from tests.chaos.recording import LOG_DELAY, NO_ANSWER, Call, Recording
from tests.chaos.rules import Found
from tests.chaos.rules.outgoing import half_open
from tests.chaos.views import PATIENCE, PROPAGATION, SILENT_LOSS, all_spans

BUSY = 0.2
"""Seconds that two busy cores may add beyond stalls and waits for a processor: a worker that is born takes one of them
for a second, while the other serves workers, Redis, MIFOS and callers. 0.08 were seen, and 0.14 beside a load of 13."""
MOST = 0.9
"""Share of the calls of which none waits for Redis that MANY_BUSY is asked of. Where each good call asks Redis as a
failure does, 30 and more in 100 of those that met the loss wait for all of sync.PATIENCE."""
MANY_BUSY = 0.05
"""Seconds that two busy cores may add to MOST: half of sync.PATIENCE. Next to nothing was seen, waits for a processor
aside."""
MANY = 20
"""Calls of which MOST says something; 65 to 86 that met a loss were seen in a run of a minute."""
USUAL = 0.08
"""Seconds that a call may usually take in calm times: 0.02 to 0.04 were seen. A run that is slow throughout does not
excuse itself."""
HOPS = 6
"""Threads that must wake one after the other for a call to be made: caller, poller, worker, MIFOS, and back. Each may
be as late as the canary was."""
STARVED = 5.0
"""Seconds that stalls and waits for a processor excuse at most, however many were measured: who hangs is told."""
FIRST_SECOND = 1.0
"""Seconds in which a new worker's calls also pay for its imports."""
BIRTH = 5.0
"""Seconds that these may cost: a busy machine took 2.5."""
SHOWN = 5
"""Calls that show a rule about many."""
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
    """No call takes longer than one in calm times, and what MIFOS and the promised patience may add.

    BUSY hides a shorter wait, and so sync.PATIENCE, the only one that the engine has: the next rule sees it in many.
    """
    usual = usual_seconds(recording)
    if usual > USUAL:
        yield f"{usual:.3f} s are usual instead of {USUAL:.3f} s at most", 0.0, ()
    for call in recording.calls:
        spent = own_seconds(recording, call)
        allowed = min(usual, USUAL) + BUSY + (BIRTH if is_early(recording, call) else 0.0)
        if spent > allowed:
            said = f"{call.seconds:.3f} s, {spent - allowed:.3f} s more than it may (usual are {usual:.3f} s)"
            yield said, call.answered, (call, recording.arrival.get(call.id))


def most_calls_wait_for_nothing(recording: Recording) -> Found:
    """Good and rejected calls while Redis is away take no longer than in calm times, one in ten aside; and so do those
    of them that may meet its loss, before their worker goes on without it.

    This sees a wait that many have, be it one patience; a wait of BUSY that few have no rule sees.
    """
    usual = min(usual_seconds(recording), USUAL)
    away = calls_without_redis(recording)
    for which, calls in (("while Redis was away", away), ("that met its loss", meeting_the_loss(recording, away))):
        if len(calls) >= MANY:
            spent = quantile([own_seconds(recording, call) for call in calls], MOST)
            if spent > usual + MANY_BUSY:
                said = f"one in ten of {len(calls)} calls {which} took {spent:.3f} s and more (usual are {usual:.3f} s)"
                slowest = sorted(calls, key=lambda call: own_seconds(recording, call))[-SHOWN:]
                yield said, slowest[0].answered, tuple(slowest)


def calls_without_redis(recording: Recording) -> list[Call]:
    """Those sent while it was killed or paused that have no reason to wait, neither for it nor for MIFOS."""
    return [
        call
        for call in recording.calls
        if call.status != NO_ANSWER
        and recording.touched(call.sent, call.sent, "kill", "pause")
        and not is_early(recording, call)
        and not patience(recording, call)
        and not at_mifos(recording, call)
    ]


def meeting_the_loss(recording: Recording, calls: list[Call]) -> list[Call]:
    """Those whose worker had not yet said that it had lost Redis: afterwards no call asks it for anything."""
    return [call for call in calls if not recording.is_alone(recording.worker(call), call.sent, call.sent)]


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def own_seconds(recording: Recording, call: Call) -> float:
    """What it took, but for what MIFOS, Redis and stalls of the whole machine may have cost."""
    stalls = HOPS * recording.stall(call.sent, call.answered, around=0.1)
    stalls += recording.waited(recording.worker(call), call.sent, call.answered)
    return call.seconds - at_mifos(recording, call) - patience(recording, call) - min(stalls, STARVED)


def usual_seconds(recording: Recording) -> float:
    """What 99 of 100 calls take in calm times, when nothing is wrong with Redis or MIFOS."""
    calm = [
        own_seconds(recording, call)
        for call in recording.calls
        if call.status == 200
        and not _fault(recording, call)
        and not recording.touched(call.sent - SILENT_LOSS, call.answered + SILENT_LOSS)
    ]
    return max(0.0, quantile(calm, 0.99)) if calm else 0.0


def at_mifos(recording: Recording, call: Call) -> float:
    """Seconds that a call may spend there."""
    return 0.0 if _fault(recording, call) in QUICK_FAULTS else recording.policy(call.breaker).timeout


def patience(recording: Recording, call: Call) -> float:
    """Seconds that it may wait for Redis: a trial asks before and tells after, a failure is told, all else is counted
    later."""
    trial = any(
        start <= call.answered and call.sent <= end + PROPAGATION
        for times in half_open(recording, call.breaker).values()
        for start, end in times
    )
    if trial:
        return 2 * PATIENCE
    return 0.0 if call.counts_as in ("successes", "rejects") else PATIENCE


def _fault(recording: Recording, call: Call) -> str:
    arrival = recording.arrival.get(call.id)
    return arrival.fault if arrival is not None else ""


def is_early(recording: Recording, call: Call) -> bool:
    """Whether its worker was just born, or nobody knows who it was."""
    pid = recording.worker(call)
    return pid is None or call.sent < recording.served_first(pid) + FIRST_SECOND
