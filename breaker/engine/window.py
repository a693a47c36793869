"""Outcomes, rolling totals, the latency histogram and its percentiles; pure.

What the stores keep is a flat tally of integers per breaker and bucket, so that a store needs only to add:

    <generation>|s  successes      <generation>|r  rejects        <generation>|w|<host>|<process>  its failures
    <generation>|f  failures       <generation>|b  fallbacks that answered for a call that failed
    <generation>|t  timeouts       <generation>|u  latency, microseconds
    h|<index>       calls whose latency falls into that slot of the histogram

The decision sums one generation, the report sums them all. History needs neither generations nor witnesses, and keeps
what all breakers counted in a minute in one tally, each field with its breaker's name: s|<name>, h|<index>|<name>.

Running totals, which are never reset, have neither as well, and a coarser histogram:

    s f t r b u             as above, of all generations
    h|<index>               calls whose latency is of that step of DURATIONS
    x|<state>|<state>       changes from one state to another
    o                       milliseconds spent open
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from operator import itemgetter

Tally = dict[str, int]
"""Field name to integer, as above."""


class Outcome(enum.Enum):
    """How a call ended; exclusive. `fires` is the sum of the four."""

    SUCCESS = "s"
    FAILURE = "f"
    TIMEOUT = "t"
    REJECT = "r"


FALLBACK = "b"
LATENCY = "u"
WITNESS = "w"
SLOT = "h"
_SLOTS = SLOT + "|"

RELATIVE_ERROR = 0.01
"""A percentile is at most this fraction off the true latency: logarithmic slots, as in DDSketch (Masson, 2019)."""

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds, in seconds, of the steps of a running total's histogram; one more step has what took longer."""

OPEN_MS = "o"
CHANGES = "x"

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_SHORTEST = 1e-5  # seconds; what is quicker shares one slot
_LONGEST = 1e5
_BOUNDS = [_SHORTEST * _GAMMA**index for index in range(math.ceil(math.log(_LONGEST / _SHORTEST, _GAMMA)))]


def slot(seconds: float) -> int:
    """The histogram's slot of a latency: its upper bound is the first that is not below it."""
    return bisect_left(_BOUNDS, seconds)


def slot_seconds(index: int) -> float:
    """The latency that stands for a slot: within RELATIVE_ERROR of all that fell into it."""
    return _SHORTEST if index <= 0 else float(2 * _SHORTEST * _GAMMA**index / (_GAMMA + 1))


_STEPS = [bisect_left(DURATIONS, slot_seconds(index)) for index in range(len(_BOUNDS) + 1)]
"""The step of DURATIONS that each slot falls into, within RELATIVE_ERROR."""


@dataclass(slots=True)
class Totals:
    """Sums over a window."""

    successes: int = 0
    failures: int = 0
    timeouts: int = 0
    rejects: int = 0
    fallbacks: int = 0
    """Each rejected call counts as one: its error is the default fallback."""
    latency_us: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    witnesses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(host, process) to the failures that it saw."""

    @property
    def completed(self) -> int:
        return self.successes + self.failures + self.timeouts

    @property
    def fires(self) -> int:
        return self.completed + self.rejects

    @property
    def error_rate(self) -> float:
        """Percent of all fires, rejects included: what is reported as errorRate."""
        return _percent(self.failures + self.timeouts, self.fires)

    @property
    def deciding_error_rate(self) -> float:
        """Percent of the completed calls: what opens a circuit."""
        return _percent(self.failures + self.timeouts, self.completed)

    @property
    def latency_mean(self) -> float:
        """Seconds."""
        return self.latency_us / self.completed / 1e6 if self.completed else 0.0

    @property
    def processes(self) -> int:
        return len(self.witnesses)

    @property
    def hosts(self) -> int:
        return len({host for host, _ in self.witnesses})

    def percentile(self, fraction: float) -> float:
        """Seconds that `fraction` of the completed calls did not exceed, within RELATIVE_ERROR; 0 without any."""
        slots = sorted(self.histogram)
        reached = [*accumulate(map(self.histogram.__getitem__, slots))]
        return slot_seconds(slots[bisect_left(reached, math.ceil(fraction * reached[-1]))]) if slots else 0.0


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0


_SUMS = {
    Outcome.SUCCESS.value: "successes",
    Outcome.FAILURE.value: "failures",
    Outcome.TIMEOUT.value: "timeouts",
    Outcome.REJECT.value: "rejects",
    FALLBACK: "fallbacks",
    LATENCY: "latency_us",
}


def total(tallies: Iterable[Mapping[str, int]], *, generation: str | None = None) -> Totals:
    """Sum buckets: those of one generation, or, without, of all."""
    totals, merged = Totals(), Tally()
    for tally in tallies:
        merge(merged, tally)
    for name, count in merged.items():
        if name.startswith(_SLOTS):  # nearly all fields are
            totals.histogram[int(name[len(_SLOTS) :])] = count
        else:
            _count(totals, name, count, generation)
    return totals


def _count(totals: Totals, name: str, count: int, generation: str | None) -> None:
    owner, _, kind = name.partition("|")
    if generation is None or owner == generation:
        if kind.startswith(WITNESS):
            _, host, process = kind.split("|", 2)
            totals.witnesses[host, process] += count
        elif kind in _SUMS:
            setattr(totals, _SUMS[kind], getattr(totals, _SUMS[kind]) + count)
        if kind == Outcome.REJECT.value:
            totals.fallbacks += count


Settled = tuple[str, float, str]
"""Generation of admission, latency in seconds, and an Outcome's value or FALLBACK."""


_GENERATION, _SECONDS, _KIND = itemgetter(0), itemgetter(1), itemgetter(2)
_TIMED = {Outcome.SUCCESS.value, Outcome.FAILURE.value, Outcome.TIMEOUT.value}


def tally(settled: Sequence[Settled], *, host: str, process: str, histogram: bool) -> Tally:
    """Fold settled calls into a tally. Rejects and fallbacks have no latency.

    Counts in C: a loop in Python would lose the GIL to busy threads again and again, and the news with it.
    """
    fields: Tally = {}
    for (generation, kind), count in Counter(map(itemgetter(0, 2), settled)).items():
        fields[f"{generation}|{kind}"] = count
        if kind in (Outcome.FAILURE.value, Outcome.TIMEOUT.value):
            merge(fields, {f"{generation}|{WITNESS}|{host}|{process}": count})
    if {*map(_KIND, settled)} - _TIMED:
        settled = [call for call in settled if call[2] in _TIMED]
    generations = {*map(_GENERATION, settled)}
    for generation in generations:
        mine = settled if len(generations) == 1 else [call for call in settled if call[0] == generation]
        spent = sum(map(_SECONDS, mine))
        fields[f"{generation}|{LATENCY}"] = int(spent * 1e6)
    if histogram:
        slots = Counter(map(bisect_left, repeat(_BOUNDS), map(_SECONDS, settled)))
        fields.update((f"{SLOT}|{index}", count) for index, count in slots.items())
    return fields


def named(name: str, counted: Mapping[str, int]) -> Tally:
    """A breaker's tally as history keeps it."""
    fields: Tally = {}
    for key, count in counted.items():
        owner, _, kind = key.partition("|")
        if owner == SLOT:
            fields[f"{key}|{name}"] = count
        elif kind in _SUMS:
            merge(fields, {f"{kind}|{name}": count})
    return fields


def running(counted: Mapping[str, int]) -> Tally:
    """A breaker's tally as its running totals have it."""
    fields: Tally = {}
    for key, count in counted.items():
        owner, _, kind = key.partition("|")
        if owner == SLOT:
            merge(fields, {f"{SLOT}|{_STEPS[int(kind)]}": count})
        elif kind in _SUMS:
            merge(fields, {kind: count})
    return fields


def step(seconds: float) -> str:
    """The field of a running total's histogram that a latency falls into."""
    return f"{SLOT}|{bisect_left(DURATIONS, seconds)}"


def by_name(counted: Mapping[str, int]) -> dict[str, Totals]:
    """What history kept of a minute: breaker to sums."""
    tallies: dict[str, Tally] = {}
    for key, count in counted.items():
        kind, _, rest = key.partition("|")
        if kind == SLOT:
            index, _, rest = rest.partition("|")
            kind = f"{SLOT}|{index}"
        else:
            kind = f"|{kind}"
        tallies.setdefault(rest, {})[kind] = int(count)
    return {name: total([tally]) for name, tally in tallies.items()}


def merge(into: Tally, more: Mapping[str, int]) -> None:
    for key, count in more.items():
        into[key] = into.get(key, 0) + count
