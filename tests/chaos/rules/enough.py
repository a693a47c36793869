"""A run has shown what the other rules judge: what nobody wrote down breaks none of them."""

import json
from collections.abc import Iterator

from tests.chaos.crowd import PARTS
from tests.chaos.recording import NO_ANSWER, Recording
from tests.chaos.rules import Found
from tests.chaos.rules.answers import MANY, calls_without_redis, meeting_the_loss
from tests.chaos.rules.belongings import settled_samples
from tests.chaos.rules.counts import compared_counts
from tests.chaos.rules.outgoing import half_open, trials
from tests.chaos.views import certainty

CERTAIN = 0.7
"""The least share of the workers' time that must be beyond doubt: 0.87 and more were seen."""

ALWAYS_LET_OUT = next(part.user for part in PARTS if part.options["error_threshold_percentage"] == 100)
"""The user of the breaker that never opens."""


def it_has_seen_enough(recording: Recording) -> Found:
    for said in _lacking(recording):
        yield said, float("inf"), ()


def _lacking(recording: Recording) -> Iterator[str]:
    if (sure := certainty(recording)) < CERTAIN:
        yield f"only {sure:.0%} of the workers' time with each breaker is beyond doubt"
    if strangers := _served_by_strangers(recording):
        yield f"nobody knows who served {strangers} calls"
    if not any(event.transition and event.state == "OPEN" for event in recording.events):
        yield "no breaker opened"
    if not any(
        trials(recording, breaker, times)
        for breaker in recording.breakers
        for times in half_open(recording, breaker).values()
    ):
        yield "there was no trial"
    if not any(one.exact and one.seen for one in compared_counts(recording)):
        yield "no counts could be compared exactly"
    if not any(len(settled_samples(recording, pid)) > 1 for pid in recording.pids if pid not in recording.died):
        yield "no worker that lived to the end was looked at twice"
    if (met := len(meeting_the_loss(recording, calls_without_redis(recording)))) < MANY:
        yield f"only {met} good or rejected calls met a loss of Redis"
    if not recording.plan:
        yield "nothing was planned"
    yield from (f"{what} was planned and not done" for what in sorted(_planned(recording) - _done(recording)))


def _served_by_strangers(recording: Recording) -> int:
    """Answered calls; a worker that was killed may have taken the line with it."""
    born = {one.pid for one in recording.born}
    return sum(
        call.status != NO_ANSWER and recording.worker(call) not in born and not recording.victims(call)
        for call in recording.calls
    )


def _planned(recording: Recording) -> set[str]:
    """Kinds of deeds, and modes of faults that calls had to meet: an open breaker may keep the other user's away."""
    found = set()
    for line in recording.plan:
        _, verb, *rest = line.split(maxsplit=2)
        if verb.startswith(("kill_", "pause_", "flush_")):
            found.add(verb)
        elif verb == "spoil_mifos":
            fault = json.loads(rest[0])
            if ALWAYS_LET_OUT in fault.get("users", [ALWAYS_LET_OUT]):
                found.add(fault["mode"])
    return found


def _done(recording: Recording) -> set[str]:
    deeds = {f"{deed.what}_{'redis' if deed.to_redis else 'worker'}" for deed in recording.deeds}
    return deeds | {arrival.fault for arrival in recording.arrivals}
