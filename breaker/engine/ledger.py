"""The ledger: what this process has counted, from the deques of its circuits to the stores.

Every count is owed to two stores: to the memory of this process, which decides when it is alone, and to the shared
one, where it may have to wait until that is back.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat, starmap
from typing import Protocol

from breaker.engine.policy import Policy
from breaker.engine.stores.base import MINUTE_MS, MINUTES_KEPT_MS, Bucket
from breaker.engine.window import Outcome, Settled, Tally, merge, named, running, tally

COARSE_MS = 250
"""Counts that wait are kept in steps of this, at most."""

LATE_MS = 15_000
"""The same for counts that no window reaches any more, which only history waits for."""
LATE_AT_MOST = 20_000

NOTED_AT_MOST = 100_000
"""What is noted between two beats; where there is no beat, what is older is forgotten."""

STORE = "@store"
"""The book of what the shared store has cost (no breaker's name begins so)."""
LOST = "lost"
"""Calls whose counts were given up."""

Owed = dict[tuple[str, int, int], Tally]
"""(breaker, bucket width in ms, monotonic ms) to what was counted then; width 0: for history alone."""


class Counted(Protocol):
    """What the ledger needs of a circuit."""

    policy: Policy
    outcomes: deque[Settled]

    @property
    def name(self) -> str: ...


class Ledger:
    """`monotonic` in seconds."""

    def __init__(self, *, host: str, process: str, monotonic: Callable[[], float]) -> None:
        self._host, self._process = host, process
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._unsent: Owed = {}
        self._unkept: Owed = {}
        self._late: Owed = {}
        self._noted: deque[tuple[str, str, int]] = deque(maxlen=NOTED_AT_MOST)
        self._books: dict[str, Tally] = {}
        self.send = True
        """Whether a shared store is to have the counts."""

    @property
    def unsent(self) -> bool:
        return bool(self._unsent or self._late)

    def drain(self, circuits: Iterable[Counted]) -> None:
        """Take what calls left in the deques. The lock is held for as long as counting takes, never over a store."""
        with self._lock:
            moment = int(self._monotonic() * 1000)
            for circuit in circuits:
                waiting = len(circuit.outcomes)
                if not waiting:
                    continue
                policy = circuit.policy
                counted = tally(
                    [*starmap(circuit.outcomes.popleft, repeat((), waiting))],
                    host=self._host,
                    process=self._process,
                    histogram=policy.rolling_percentiles_enabled,
                )
                step = min(COARSE_MS, policy.bucket_width_ms)  # more would put a count outside of a short window
                where = (circuit.name, policy.bucket_width_ms, moment // step * step)
                merge(self._unkept.setdefault(where, {}), counted)
                if self.send:
                    merge(self._unsent.setdefault(where, {}), counted)

    def note(self, book: str, field: str, count: int = 1) -> None:
        """Count something beside what circuits count, into the running totals of that name. Takes no lock."""
        self._noted.append((book, field, count))

    def bind(self) -> None:
        """Sum what was noted."""
        with self._lock:
            for _ in range(len(self._noted)):
                book, field, count = self._noted.popleft()
                merge(self._books.setdefault(book, {}), {field: count})

    def books(self) -> dict[str, Tally]:
        """All that was noted since the last time, by book."""
        self.bind()
        with self._lock:
            books, self._books = self._books, {}
        return books

    def to_send(self) -> Owed:
        """All that the shared store has not been given."""
        with self._lock:
            owed, self._unsent, self._late = {**self._late, **self._unsent}, {}, {}
        return owed

    def to_keep(self) -> Owed:
        """The same for the memory store."""
        with self._lock:
            owed, self._unkept = self._unkept, {}
        return owed

    def forget_before(self, moment: int) -> None:
        """Counts that no window reaches any more wait for the store for history's sake, and not for ever."""
        with self._lock:
            for name, width, at in [where for where in self._unsent if where[2] < moment]:
                counted = self._unsent.pop((name, width, at))
                merge(self._late.setdefault((name, 0, at // LATE_MS * LATE_MS), {}), counted)
            for where in list(self._late):
                if where[2] >= moment - MINUTES_KEPT_MS and len(self._late) <= LATE_AT_MOST:
                    break
                self._give_up(where[0], self._late.pop(where))

    def _give_up(self, name: str, counted: Tally) -> None:
        """Running totals need no time, so that in them nothing is lost."""
        totals = running(counted)
        merge(self._books.setdefault(name, {}), totals)
        lost = sum(totals.get(outcome.value, 0) for outcome in Outcome)
        merge(self._books.setdefault(STORE, {}), {LOST: lost})


def bucketed(owed: Owed, offset: int) -> dict[Bucket, Tally]:
    """By the buckets of a store whose clock is `offset` ms ahead of the monotonic one."""
    buckets: dict[Bucket, Tally] = {}
    for (name, width, moment), counted in owed.items():
        if width:
            merge(buckets.setdefault(Bucket(name, width, (moment + offset) // width), {}), counted)
    return buckets


def by_minute(owed: Owed, offset: int) -> dict[int, Tally]:
    """By that clock's minutes."""
    minutes: dict[int, Tally] = {}
    for (name, _, moment), counted in owed.items():
        merge(minutes.setdefault((moment + offset) // MINUTE_MS, {}), named(name, counted))
    return minutes


def totalled(owed: Owed) -> dict[str, Tally]:
    """By breaker alone, as running totals have it."""
    totals: dict[str, Tally] = {}
    for (name, _, _), counted in owed.items():
        merge(totals.setdefault(name, {}), running(counted))
    return totals
