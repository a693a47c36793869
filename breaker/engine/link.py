"""The link: what this process counts, sent to the stores once and in order, and the shared store's clock.

A push whose answer was lost stays in flight, and goes again under its own number before anything newer.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from breaker.engine.ledger import Counted, Ledger, Owed, bucketed, by_minute, totalled
from breaker.engine.stores.base import Bucket, Push, Pushed, Store, Window
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.window import Tally, Totals, merge, total

CLOCK_STEP_MS = 500
"""A difference to the store's clock above this is a step, not jitter."""
AT_ONCE = 500
"""Counts that one push carries: a script must not hold Redis for long."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """What one push carries."""

    buckets: dict[Bucket, Tally]
    minutes: dict[int, Tally]
    totals: dict[str, Tally]


class Link:
    """`circuits` gives those to drain, `renewals` the (breaker, token) of the trials that run here, `followed` the
    number of the newest write that this process knows."""

    def __init__(
        self,
        shared: Store | None,
        *,
        process: str,
        offset: int,
        monotonic: Callable[[], float],
        circuits: Callable[[], Iterable[Counted]],
        renewals: Callable[[], Sequence[tuple[str, str]]],
        followed: Callable[[], int] = lambda: 0,
    ) -> None:
        self.shared = shared
        self.process = process
        self.local = MemoryStore(self.now)
        self.pushed_at = float("-inf")
        self.round_trip: float | None = None
        """Seconds that the last push to the shared store took; None before the first."""
        self.longest_window_ms = 60_000
        self._monotonic = monotonic
        self._circuits = circuits
        self._renewals = renewals
        self._followed = followed
        self._host = socket.gethostname()
        self._offset = offset
        self._ledger = Ledger(host=self._host, process=process, monotonic=monotonic)
        self._ledger.send = shared is not None
        self.note = self._ledger.note
        self._sequence = self._local_sequence = 0
        self._inflight: deque[tuple[int, _Counts]] = deque()
        self._pushing = threading.RLock()
        self._keeping = threading.Lock()

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def owing(self) -> bool:
        """Whether anything waits to be sent."""
        return self._ledger.unsent or bool(self._inflight)

    def now(self) -> int:
        """Milliseconds on the shared store's clock, as learnt at the last push; on the wall's before the first."""
        return int(self._monotonic() * 1000) + self._offset

    def drain(self, only: Iterable[Counted] | None = None) -> None:
        """Take what the calls have left in the deques of all circuits, or of these."""
        self._ledger.drain(list(self._circuits()) if only is None else only)
        if only is None:
            self._ledger.bind()

    def keep(self, wants: Mapping[str, Window] | None = None) -> Pushed:
        """Give the memory store what was drained."""
        with self._keeping:  # to the end: what overtakes would have the store take this for applied before
            self._local_sequence += 1
            alone = self.shared is None  # else all that lasts is the shared store's
            counts = self._counts(self._ledger.to_keep(), lasts=alone, books=self._ledger.books() if alone else {})
            return self.local.push(self._composed(self._local_sequence, counts, wants=wants))

    def own_totals(self, circuit: Counted) -> Totals:
        """What this process counted of a circuit in its window."""
        self.drain([circuit])
        return total(self.keep({circuit.name: Window.of(circuit.policy)}).windows[circuit.name])

    def flush(
        self,
        *,
        answers: Sequence[str] = (),
        wants: Mapping[str, Window] | None = None,
        only: Iterable[Counted] | None = None,
    ) -> Pushed:
        """Send all that this process has counted, or at least what of these circuits. Raises StoreError."""
        with self._pushing:
            self.drain(only)
            owed = list(self._ledger.to_send().items())
            books = self._ledger.books() if only is None else {}  # they have time, and who asks for some has none
            for start in range(0, max(1, len(owed)), AT_ONCE):
                self._sequence += 1
                counts = self._counts(dict(owed[start : start + AT_ONCE]), books=books)
                self._inflight.append((self._sequence, counts))
                books = {}
            while len(self._inflight) > 1:
                self._push(*self._inflight[0])
            return self._push(*self._inflight[0], answers=answers, wants=wants)

    def probe(self) -> Pushed:
        """Push only what is in flight, if anything: does the store answer? Raises StoreError."""
        with self._pushing:
            return self._push(*self._inflight[0]) if self._inflight else self._push(self._sequence, _Counts({}, {}, {}))

    def forget_old(self) -> None:
        """While the store is away: drop counts that no window reaches any more."""
        self._ledger.forget_before(int(self._monotonic() * 1000) - self._keep_ms())

    def _counts(self, owed: Owed, *, books: Mapping[str, Tally], lasts: bool = True) -> _Counts:
        """`lasts`: for history and running totals too."""
        if not lasts:
            return _Counts(bucketed(owed, self._offset), {}, {})
        totals = totalled(owed)
        for book, fields in books.items():
            merge(totals.setdefault(book, {}), fields)
        return _Counts(bucketed(owed, self._offset), by_minute(owed, self._offset), totals)

    def _push(
        self,
        sequence: int,
        counts: _Counts,
        *,
        answers: Sequence[str] = (),
        wants: Mapping[str, Window] | None = None,
    ) -> Pushed:
        assert self.shared is not None
        before = self._monotonic()
        pushed = self.shared.push(self._composed(sequence, counts, answers=answers, wants=wants))
        if self._inflight and self._inflight[0][0] == sequence:
            self._inflight.popleft()
        self.pushed_at = self._monotonic()
        self.round_trip = self.pushed_at - before
        self._learn(pushed.now, before)
        return pushed

    def _composed(
        self,
        sequence: int,
        counts: _Counts,
        *,
        answers: Sequence[str] = (),
        wants: Mapping[str, Window] | None = None,
    ) -> Push:
        return Push(
            process=self.process,
            sequence=sequence,
            counts=counts.buckets,
            minutes=counts.minutes,
            totals=counts.totals,
            host=self._host,
            followed=self._followed(),
            keep_ms=self._keep_ms(),
            now=self.now(),
            wants=wants or {},
            renewals=self._renewals(),
            answers=answers,
        )

    def _keep_ms(self) -> int:
        return self.longest_window_ms * 5 // 4 + 1_000

    def _learn(self, store_now: int, before: float) -> None:
        """The store's clock, read in the middle of the round trip."""
        middle = (before + self._monotonic()) / 2
        offset = store_now - int(middle * 1000)
        step, self._offset = offset - self._offset, offset
        if abs(step) > CLOCK_STEP_MS:
            self.local.shift(step)
