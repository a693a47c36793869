"""The figures of a run, and what a violation has to show."""

from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.checker import Violation
from tests.chaos.recording import KINDS, NO_ANSWER, Recording, Sample
from tests.chaos.rules.answers import (
    MOST,
    calls_without_redis,
    is_early,
    meeting_the_loss,
    own_seconds,
    quantile,
    usual_seconds,
)
from tests.chaos.rules.counts import compared_counts
from tests.chaos.rules.outgoing import half_open, trials
from tests.chaos.views import SILENT_LOSS, certainty

SHOWN = 20
"""Violations that are shown in full."""


def figures(recording: Recording) -> list[str]:
    return [f"{name:<12} {said}" for name, said in _figures(recording)]


def _figures(recording: Recording) -> Iterator[tuple[str, str]]:
    yield "run", f"seed {recording.seed}, {recording.minutes:g} min"
    yield "calls", _calls(recording)
    yield "deeds", _deeds(recording)
    yield "transitions", _transitions(recording)
    yield "trials", _trials(recording)
    yield "propagation", f"a call went out {_propagation(recording) * 1000:.0f} ms after an opening, at worst"
    yield "waits", _waits(recording)
    yield "counts", _counts(recording)
    yield from (("worker", said) for said in _belongings(recording))
    stalls = sorted(one.seconds for one in recording.stalls if not one.pid)
    waited = sum(one.seconds for one in recording.stalls if one.pid)
    late = (
        f"a thread woke {stalls[-1] * 1000 if stalls else 0:.0f} ms late at worst, {len(stalls)} times late; workers' "
        f"threads waited {waited:.1f} s for a processor"
    )
    yield "machine", late
    yield "certainty", f"{certainty(recording):.0%} of the workers' time with each breaker is beyond doubt"


def _calls(recording: Recording) -> str:
    kinds = {kind: sum(call.counts_as == kind for call in recording.calls) for kind in KINDS}
    broken = sum(call.status == NO_ANSWER for call in recording.calls)
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{len(recording.calls)}: {said}, {broken} broken off; {len(recording.arrivals)} reached MIFOS"


def _deeds(recording: Recording) -> str:
    redis = {what: sum(deed.what == what for deed in recording.redis_deeds) for what in ("kill", "pause", "flush")}
    return (
        f"{len(recording.kills)} workers killed, Redis killed {redis['kill']}, paused {redis['pause']} and emptied "
        f"{redis['flush']} times; {len(recording.alone)} times a worker was without it"
    )


def _transitions(recording: Recording) -> str:
    shared = sum(event.transition for event in recording.events)
    alone = sum(told.alone for told in recording.told)
    opened = sum(event.transition and event.state == "OPEN" for event in recording.events)
    put_back = sum(not event.transition for event in recording.events)
    return (
        f"{shared} in Redis ({opened} openings), {alone} told as made alone; {put_back} circuits put (back) into Redis"
    )


def _trials(recording: Recording) -> str:
    generations = [
        (breaker, times) for breaker in recording.breakers for times in half_open(recording, breaker).values()
    ]
    made = [len(trials(recording, breaker, times)) for breaker, times in generations]
    return f"{sum(made)} in {len(made)} half-open generations, {max(made, default=0)} in one at most"


def _propagation(recording: Recording) -> float:
    """The longest time after an opening at which a call was sent that went out, of workers that heard Redis."""
    worst = 0.0
    for breaker in recording.breakers:
        for event, after in pairwise(recording.events_of[breaker]):
            if event.state != "OPEN" or recording.touched(event.at - SILENT_LOSS, after.at):
                continue
            for call in recording.sent(recording.calls_to[breaker], event.at, after.at):
                arrival, pid = recording.arrival.get(call.id), recording.worker(call)
                if (
                    arrival
                    and arrival.at < after.at
                    and not recording.is_alone(pid, event.at - SILENT_LOSS, arrival.at)
                ):
                    worst = max(worst, call.sent - event.at)
    return worst


def _waits(recording: Recording) -> str:
    usual = usual_seconds(recording)
    over = {True: 0.0, False: 0.0}
    for call in recording.calls:
        if call.status != NO_ANSWER and not is_early(recording, call):
            away = recording.touched(call.sent, call.answered) is not None
            over[away] = max(over[away], own_seconds(recording, call) - usual)
    met = [own_seconds(recording, call) for call in meeting_the_loss(recording, calls_without_redis(recording))]
    slow = quantile(met, MOST) if met else 0.0
    return (
        f"{usual * 1000:.0f} ms are usual (p99); {slow * 1000:.0f} ms at p{MOST * 100:.0f} of {len(met)} calls that "
        f"met a loss of Redis; at worst {over[True] * 1000:.0f} ms beyond patience while something was done to Redis, "
        f"{over[False] * 1000:.0f} ms otherwise"
    )


def _counts(recording: Recording) -> str:
    exact = [one for one in compared_counts(recording) if one.exact]
    seen = sum(one.seen for one in exact)
    missing = sum(one.missing for one in exact)
    kills = {deed.pid for one in exact for deed in recording.kills if one.since < deed.began <= one.now.at}
    return (
        f"{missing} of {seen} calls not counted, over {len(kills)} killed workers; {len(exact)} comparisons were exact"
    )


def _belongings(recording: Recording) -> Iterator[str]:
    """Of the workers that lived longest."""
    lives = {pid: [one for one in recording.samples if one.pid == pid] for pid in recording.pids}
    for pid, samples in sorted(lives.items(), key=lambda item: -len(item[1]))[:2]:
        if samples:
            yield f"{pid}: " + " -> ".join(_said(one) for one in (samples[0], samples[-1]))


def _said(sample: Sample) -> str:
    return f"{sample.threads} threads, {sample.sockets}+{sample.idle} descriptors, {sample.rss / 2**20:.1f} MiB"


def violations(recording: Recording, found: list[Violation]) -> list[str]:
    """What is wrong, and the schedule that made it."""
    if not found:
        return []
    return [
        "",
        f"{len(found)} violations; the schedule of seed {recording.seed} was:",
        *recording.plan,
        "",
        "what was done to Redis and the workers:",
        *(f"{deed.began:7.2f} to {deed.ended:7.2f}  {deed}" for deed in recording.deeds),
        "",
        *(str(violation) for violation in found[:SHOWN]),
        *([f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []),
    ]
