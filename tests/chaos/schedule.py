"""What will be done when: from the seed alone, so that a run can be repeated.

A round is TROUBLE seconds in which three hands work at once (on Redis, on MIFOS, on the workers), CALM seconds in which
all is well and callers press on, and a HUSH in which nobody calls, so that counts and belongings can be compared. Each
hand draws from a deck, which is shuffled and laid again when it is used up: so each kind comes up early. In the first
deal a fault is for all users; later it may be for one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

WARM_UP = 4.0
TROUBLE = 12.0
CALM = 3.0
HUSH = 1.5
ROUND = TROUBLE + CALM + HUSH

# A pause of a moment, one that every process notices, and one that outlasts a trial's lease.
PAUSES = ("pause", "long pause")
LOSSES = ("kill", "flush")
SECONDS = {"pause": (0.1, 0.6), "long pause": (1.5, 3.5), "kill": (0.3, 3.0), "flush": (0.0, 0.0)}

FAULTS: dict[str, dict[str, Any]] = {
    "error": {"mode": "error"},
    "some errors": {"mode": "error", "rate": 0.7},
    "hang": {"mode": "hang"},
    "slow": {"mode": "slow", "seconds": 0.6},
    "drip": {"mode": "drip", "where": "body"},
    "drip headers": {"mode": "drip", "where": "headers"},
    "reset": {"mode": "reset"},
    "reset in the answer": {"mode": "reset", "where": "headers"},
    "flap": {"mode": "error"},
}
FLAP_SECONDS = 0.3
LONG_TRIALS = ("hang", "drip", "drip headers", "slow")
HUNT_SECONDS = 4.0

# Gateway and worker by age; the older worker of the second gateway is spared, so that somebody lives through it all.
VICTIMS = ((0, 0), (0, 1), (1, 1))


@dataclass(frozen=True, slots=True)
class Step:
    """`verb` is a method of the stage."""

    at: float
    verb: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        said = " ".join(json.dumps(one) if isinstance(one, dict) else str(one) for one in self.arguments)
        return f"{self.at:7.2f}  {self.verb} {said}".rstrip()


@dataclass
class Deck:
    cards: tuple[Any, ...]
    random: Random
    deals: int = 0
    _left: list[Any] = field(default_factory=list)

    def draw(self) -> Any:
        if not self._left:
            self.deals += 1
            self._left = [*self.cards]
            self.random.shuffle(self._left)
        return self._left.pop()


def schedule(seed: int, seconds: float) -> list[Step]:
    """Steps in order; the last ends a round. There is always one, however short the time."""
    random = Random(seed)
    decks = {
        name: Deck(cards, random)
        for name, cards in {"faults": (*FAULTS,), "pauses": PAUSES, "losses": LOSSES, "victims": VICTIMS}.items()
    }
    steps: list[Step] = []
    for number in range(max(1, int((seconds - WARM_UP) / ROUND))):
        start = WARM_UP + number * ROUND
        steps += sorted(_trouble(random, decks, number, start), key=lambda step: step.at)
        steps += [Step(start + TROUBLE, "mend"), Step(start + TROUBLE + CALM, "hush"), Step(start + ROUND, "press")]
    return steps


def _trouble(random: Random, decks: dict[str, Deck], number: int, start: float) -> Iterator[Step]:
    # Every other round spares Redis's data, so that the counts can be compared to the last one.
    yield from _redis(random, decks["losses" if number % 2 else "pauses"], start)
    yield from _mifos(random, decks["faults"], start)
    for at in (random.uniform(1, 6), random.uniform(7, TROUBLE - 1)):
        yield Step(start + at, "kill_worker", decks["victims"].draw())


def _redis(random: Random, deck: Deck, start: float) -> Iterator[Step]:
    slot = TROUBLE / 2
    for begin in (start, start + slot):
        what = deck.draw()
        at, lasts = begin + random.uniform(0.3, slot - 3.8), random.uniform(*SECONDS[what])
        yield Step(at, f"{what.split()[-1]}_redis")
        if lasts:
            yield Step(at + lasts, "start_redis" if what == "kill" else "resume_redis")


def _mifos(random: Random, deck: Deck, start: float) -> Iterator[Step]:
    slot = TROUBLE / 3
    for begin in (start, start + slot, start + 2 * slot):
        name = deck.draw()
        at, lasts = begin + random.uniform(0, slot - 3.4), random.uniform(1.5, 3.2)
        fault = {"seed": random.randrange(1000), **FAULTS[name]}
        # Each first for all users, so that every breaker meets it in the shortest run.
        if deck.deals > 1 and random.random() < 0.5:
            fault["users"] = [random.choice(["maker", "checker"])]
        yield Step(at, "spoil_mifos", (fault,))
        yield Step(at + lasts, "mend_mifos")
        if name == "flap":
            yield from _flaps(at, lasts, fault)
        if name in LONG_TRIALS and random.random() < 0.6:
            yield Step(at, "hunt_the_trial", (HUNT_SECONDS,))


def _flaps(at: float, lasts: float, fault: dict[str, Any]) -> Iterator[Step]:
    for number in range(1, int(lasts / FLAP_SECONDS)):
        moment = at + number * FLAP_SECONDS
        yield Step(moment, "spoil_mifos", (fault,)) if number % 2 == 0 else Step(moment, "mend_mifos")
