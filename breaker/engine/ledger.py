"""The ledger: what this process has counted, from the deques of its circuits to the stores.

Every count is owed to two stores: to the memory of this process, which decides when it is alone, and to the shared
one, where it may have to wait until that is back.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat, starmap
from typing import Protocol

from breaker.engine.policy import Policy
from breaker.engine.stores.base import Bucket
from breaker.engine.window import Settled, Tally, merge, tally

COARSE_MS = 250
"""Counts that wait are kept in steps of this, at most."""

Owed = dict[tuple[str, int, int], Tally]
"""(breaker, bucket width in ms, monotonic ms) to what was counted then."""


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
        self.send = True
        """Whether a shared store is to have the counts."""

    @property
    def unsent(self) -> bool:
        return bool(self._unsent)

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

    def to_send(self, offset: int) -> dict[Bucket, Tally]:
        """All that the shared store has not been given, by its own clock: `offset` ms ahead of the monotonic one."""
        with self._lock:
            owed, self._unsent = self._unsent, {}
        return _bucketed(owed, offset)

    def to_keep(self, offset: int) -> dict[Bucket, Tally]:
        """The same for the memory store."""
        with self._lock:
            owed, self._unkept = self._unkept, {}
        return _bucketed(owed, offset)

    def forget_before(self, moment: int) -> None:
        """Counts that no window reaches any more need not wait for the store."""
        with self._lock:
            self._unsent = {where: counted for where, counted in self._unsent.items() if where[2] >= moment}


def _bucketed(owed: Mapping[tuple[str, int, int], Tally], offset: int) -> dict[Bucket, Tally]:
    buckets: dict[Bucket, Tally] = {}
    for (name, width, moment), counted in owed.items():
        merge(buckets.setdefault(Bucket(name, width, (moment + offset) // width), {}), counted)
    return buckets
