"""Reads a recording after its run, and says what the rules find wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.chaos.recording import Recording
from tests.chaos.rules import Found, answers, belongings, counts, enough, outgoing, sharing, transitions

RULES: tuple[Callable[[Recording], Found], ...] = (
    outgoing.nothing_goes_out_of_an_open_breaker,
    outgoing.one_trial_a_generation,
    outgoing.nothing_is_sent_twice,
    answers.no_call_fails_but_by_mifos,
    answers.nothing_is_rejected_by_a_closed_breaker,
    answers.no_call_waits_for_redis,
    answers.most_calls_wait_for_nothing,
    transitions.opens_when_it_must,
    transitions.turns_in_time,
    transitions.each_transition_is_told_once,
    sharing.redis_is_followed_again,
    sharing.a_healthy_redis_is_not_lost,
    counts.counts_are_right,
    belongings.nothing_grows,
    belongings.nobody_complains,
    belongings.nothing_is_left_behind,
    enough.it_has_seen_enough,
)


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    said: str
    at: float
    records: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.at:.3f}  {self.rule}: {self.said}", *(f"         {row}" for row in self.records)])


def check(recording: Recording) -> list[Violation]:
    """All that is wrong, in the order in which it happened."""
    found = [Violation(rule.__name__, *row) for rule in RULES for row in rule(recording)]
    return sorted(found, key=lambda violation: violation.at)
