"""The benchmark's words: a course is a block of the table, its rows stand beside each other, and goals judge them."""

from __future__ import annotations

import enum
import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Unit(enum.Enum):
    SECONDS = "second"
    BYTES = "byte"
    A_SECOND = "per second"
    CORES = "share of a core"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure."""

    rounds: int
    """Turns of each contestant."""
    turn_seconds: float
    trips: int
    polled_trips: int
    """For peers that hear of a trip by asking each second."""
    course_seconds: float
    """Trips that take longer than this altogether end with fewer of them."""
    window_seconds: float
    """How long a rate or a share of a core is watched."""
    windows: int
    background_windows: int
    """Of shares of a core: a peer's was 8 % in one window and 62 % in the next."""
    slow_seconds: float = 0.2
    """What the guarded function takes where it is slow."""
    share: float = 1.0
    """Of the breakers, workers and calls that a row names; below 1 only to see that it runs."""

    def some(self, count: int, *, at_least: int = 2) -> int:
        return max(min(count, at_least), round(count * self.share))


@dataclass(kw_only=True)
class Figure:
    """What was measured for one row."""

    values: list[float] = field(default_factory=list)
    """One for each round where the course says so, the same place in two rows being the same moment; else as many as
    were seen."""
    beside: dict[str, float] = field(default_factory=dict)
    """What else was seen, by name: CPU, p50, p99 and first in seconds, share of a core, anything else a count."""
    missing: str = ""
    """Why there are no values."""

    def rank(self, rank: int) -> float:
        """The percentile of that rank; never reached: infinity."""
        if rank == 50:
            return self.median  # of two values the middle, and not the better one
        ordered = sorted(self.values)
        if not ordered:
            return math.inf
        return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * rank // 100) - 1))]

    @property
    def median(self) -> float:
        return statistics.median(self.values) if self.values else math.inf

    @property
    def surely(self) -> tuple[float, float]:
        """Between which two values the median of all that could have been measured lies, with 95 % certainty: by ranks,
        whatever the values' distribution; the least and the most where they are too few to say so."""
        ordered = sorted(self.values)
        if not ordered:
            return math.inf, math.inf
        tails = itertools.accumulate(math.comb(len(ordered), below) / 2 ** len(ordered) for below in itertools.count())
        place = max(0, sum(1 for _ in itertools.takewhile(lambda tail: tail <= 0.025, tails)) - 1)
        return ordered[place], ordered[-1 - place]


Book = dict[str, dict[str, Figure]]
"""Course to row to what was measured."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    met: bool
    goal: str
    found: str


class Goal(Protocol):
    def judge(self, course: Course, book: Book) -> Verdict | None:
        """None: what it needs was not measured."""


def nothing(book: Book) -> str:
    """A course goes to processes, and there no lambda can."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Course:
    name: str
    title: str
    rows: tuple[str, ...]
    """The first is ours, or the least; the others are set beside it."""
    unit: Unit = Unit.SECONDS
    in_rounds: bool = False
    """Whether the same place in the values of two rows is one round, so that they may be compared one by one."""
    once: bool = False
    """Whether a run sees one value of each row, which no median and no spread is to be made of."""
    ours: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Row to the one of ours that it is set beside, where that is another than the first."""
    ranks: tuple[int, int] = (10, 90)
    """Percentiles that are shown beside the median. 100: the worst."""
    goals: tuple[Goal, ...] = ()
    why_missed: str = ""
    """What stands in the way of goals that are missed."""
    parts: Callable[[Book], str] = field(default=nothing, hash=False)
    """The same in figures, of what the run measured; empty: it did not."""

    @property
    def subject(self) -> str:
        return self.rows[0]

    def beside(self, row: str) -> str:
        """The row that it is compared with; itself where it is ours."""
        return self.ours.get(row, self.subject)

    def ratios(self, row: str, book: Book) -> Figure:
        """How many times a row's figure ours is; without values where either was not measured."""
        figures = book.get(self.name, {})
        ours, theirs = figures.get(self.beside(row), Figure()), figures.get(row, Figure())
        return ratios(ours, theirs, in_rounds=self.in_rounds)


Measured = Iterator[tuple[Course, dict[str, Figure]]]


@dataclass(frozen=True, kw_only=True)
class Session:
    """Courses that are measured by the same means, in this order."""

    courses: tuple[Course, ...]
    measure: Callable[[Sequence[Course], Effort, str], Measured]
    """Those courses that are wanted, how long, and the address of a Redis for the run; gives each course when done."""
    priced: bool = True
    """Whether README's price section shows it; else README says elsewhere what it came to."""


def ratios(ours: Figure, theirs: Figure, *, in_rounds: bool) -> Figure:
    """Round by round where there are rounds, since what slowed the machine then slowed both; else of the medians."""
    if not (ours.values and theirs.values):
        return Figure()
    if in_rounds:
        pairs = zip(ours.values, theirs.values, strict=True)
    else:
        pairs = zip([ours.median], [theirs.median], strict=True)
    return Figure(values=[mine / other if other else math.inf for mine, other in pairs])


@dataclass(frozen=True, kw_only=True)
class Times:
    """How many times a peer's figure ours may or must be."""

    peer: str
    at_most: float = math.inf
    at_least: float = 0.0

    def judge(self, course: Course, book: Book) -> Verdict | None:
        ratio = course.ratios(self.peer, book)
        if not ratio.values:
            return None
        found = ratio.median
        limit = f"at most {self.at_most:.3g}" if self.at_most < math.inf else f"at least {self.at_least:.3g}"
        met = self.at_least <= found <= self.at_most
        return Verdict(met=met, goal=f"{limit} x {self.peer}", found=f"{found:.3g}")


FEWEST_ROUNDS = 6
"""Of fewer not even the least and the most enclose the median with 95 % certainty: 2 / 2^5 is 6 %, 2 / 2^6 is 3 %."""


@dataclass(frozen=True, kw_only=True)
class Surely:
    """The same at least, and not by chance: the median over the rounds, whichever of its 95 % interval it is. Of fewer
    than FEWEST_ROUNDS it is missed."""

    peer: str
    at_least: float

    def judge(self, course: Course, book: Book) -> Verdict | None:
        ratio = course.ratios(self.peer, book)
        if not ratio.values:
            return None
        rounds, low, high = len(ratio.values), *ratio.surely
        goal = f"at least {self.at_least:.3g} x {self.peer}"
        if rounds < FEWEST_ROUNDS:
            found = f"{ratio.median:.3g}, of {rounds} rounds, too few rounds to tell: {FEWEST_ROUNDS} are needed"
            return Verdict(met=False, goal=goal, found=found)
        undecided = ", which does not decide it" if low < self.at_least <= high else ""
        return Verdict(
            met=low >= self.at_least,
            goal=goal,
            found=f"{ratio.median:.3g}, and with 95 % certainty {low:.3g}..{high:.3g} ({rounds} rounds){undecided}",
        )


@dataclass(frozen=True, kw_only=True)
class Within:
    """A percentile of one row that may be so much, in the course's unit."""

    row: str
    rank: int
    at_most: float

    def judge(self, course: Course, book: Book) -> Verdict | None:
        rows = book.get(course.name, {})
        if self.row not in rows or rows[self.row].missing:
            return None
        found = rows[self.row].rank(self.rank)
        goal = f"{self.row}: p{self.rank} at most {shown(self.at_most, course.unit)}"
        return Verdict(met=found <= self.at_most, goal=goal, found=shown(found, course.unit))


def shown(value: float, unit: Unit) -> str:
    """For people: three digits and the unit."""
    if value == math.inf:
        return "never"
    if unit is Unit.CORES:
        return f"{value * 100:.2g} %" if value >= 0.0001 else "0 %" if value == 0 else "< 0.01 %"
    if unit is Unit.A_SECOND:
        return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"
    for name, size in _SIZES[unit]:
        if abs(value) >= size * 0.9995:  # what three digits would round up to it
            return f"{value / size:.3g} {name}"
    name, size = _SIZES[unit][-1]
    return f"{value / size:.3g} {name}"


_SIZES = {
    Unit.SECONDS: (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)),
    Unit.BYTES: (("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
}
