"""What a guarded call costs: closed, rejected and slow, on one thread and many, with few breakers and many."""

from __future__ import annotations

from tests.benchmarks import turns
from tests.benchmarks.contestants import (
    BALDUR_REDIS,
    INTERLOCK,
    INTERLOCK_REDIS,
    NOPANIC_REDIS,
    OPOSSUM,
    OURS,
    OURS_ALONE,
    PYBREAKER,
    PYBREAKER_REDIS,
    ROUND_TRIP,
    UNGUARDED,
    crowd,
    status,
)
from tests.benchmarks.course import Course, Session, Times
from tests.benchmarks.turns import Drill

PEERS = (
    OURS_ALONE,
    PYBREAKER,
    PYBREAKER_REDIS,
    INTERLOCK,
    INTERLOCK_REDIS,
    BALDUR_REDIS,
    NOPANIC_REDIS,
    OPOSSUM,
    ROUND_TRIP,
)
ROWS = (OURS, *PEERS)

_SMALL = Times(peer=PYBREAKER_REDIS, at_most=1 / 70)
CLOSED_GOALS = (Times(peer=PYBREAKER, at_most=2), Times(peer=INTERLOCK_REDIS, at_most=1), _SMALL)
REJECTED_GOALS = (Times(peer=PYBREAKER, at_most=1), _SMALL)


def _on(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


CLOSED = tuple(
    Drill(
        name=f"closed-{threads}",
        title=f"A guarded call, closed, {_on(threads)}",
        rows=(*ROWS, UNGUARDED),
        threads=threads,
        goals=CLOSED_GOALS,
    )
    for threads in (1, 8, 32)
)
REJECTED = tuple(
    Drill(
        name=f"rejected-{threads}",
        title=f"A rejected call, {_on(threads)}",
        rows=ROWS,
        rejected=True,
        threads=threads,
        goals=REJECTED_GOALS,
        why_missed="ours counts and raises, theirs is one round trip on loopback, and the goal lies between the two; "
        "any network's round trip takes longer",
    )
    for threads in (1, 8, 32)
)
SLOW = Drill(
    name="slow-8",
    title="A guarded call of 0.2 s on 8 threads, wall time over calls",
    rows=(*(row for row in ROWS if row != ROUND_TRIP), UNGUARDED),
    slow=True,
    threads=8,
)
_CROWDS = (12, 1_000, 10_000)
CROWD = Drill(
    name="crowd-call",
    title="A guarded call, closed, each to the next of so many breakers",
    rows=tuple(crowd(who, count) for who in (OURS, PYBREAKER) for count in _CROWDS),
    ours={crowd(who, count): crowd(OURS, count) for who in (OURS, PYBREAKER) for count in _CROWDS},
)
STATUS = tuple(
    Drill(
        name=f"status-{count}",
        title=f"A status read of {count:,} breakers (no peer reads a cluster's)",
        rows=(status(OURS, count), status(OURS_ALONE, count), ROUND_TRIP),
    )
    for count in (12, 1_000)
)

COURSES: tuple[Course, ...] = (*CLOSED, *REJECTED, SLOW, CROWD, *STATUS)
SESSION = Session(courses=COURSES, measure=turns.measure)
