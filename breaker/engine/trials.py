"""Trials: the leases that this process holds of half-open circuits, and what their outcomes decide."""

from __future__ import annotations

import secrets
from concurrent.futures import Future
from typing import TYPE_CHECKING

from breaker.engine import machine
from breaker.engine.courier import done
from breaker.engine.stores.base import LeaseRequest, Store
from breaker.engine.window import Outcome

if TYPE_CHECKING:
    from breaker.engine.sync import Circuit, Sync

DEADLINE_MS = 100
"""A store refuses a lease that it is asked for later than this: whoever asked has gone."""


class Trials:
    """The trials of one process; a token stands for each."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._held: dict[str, tuple[str, float]] = {}
        """Token to breaker, and the monotonic time beyond which it is not renewed."""

    def __bool__(self) -> bool:
        return bool(self._held)

    def renewals(self) -> list[tuple[str, str]]:
        return [(name, token) for token, (name, _) in list(self._held.items())]

    def as_leases(self) -> list[tuple[str, str, int]]:
        """For a store to adopt: (breaker, token, longest until in ms)."""
        now, monotonic = self._sync.now(), self._sync.monotonic()
        return [
            (name, token, now + int((longest - monotonic) * 1000))
            for token, (name, longest) in list(self._held.items())
        ]

    def forget_overdue(self) -> None:
        now = self._sync.monotonic()
        for token in [token for token, (_, longest) in list(self._held.items()) if longest < now]:
            self._held.pop(token, None)

    def lease(self, circuit: Circuit, generation: str) -> Future[str | None]:
        """The token of a trial's lease, or None when others hold it."""
        shared = self._sync.shared
        if self._sync.sharing and shared is not None:
            return self._sync.courier.carry(lambda: self._lease(shared, circuit, generation))
        return done(self._lease(self._sync.local, circuit, generation))

    def lease_alone(self, circuit: Circuit, generation: str) -> str | None:
        """Where the shared store went away over the question: this process's own lease, for no call fails for that."""
        return None if self._sync.sharing else self._lease(self._sync.local, circuit, generation)

    def _lease(self, store: Store, circuit: Circuit, generation: str) -> str | None:
        token = f"{self._sync.process}:{secrets.token_hex(6)}"
        longest = int((circuit.policy.timeout + 1) * 1000)
        asked = LeaseRequest(
            name=circuit.name,
            generation=generation,
            token=token,
            slots=circuit.policy.half_open_max_calls,
            longest_ms=longest,
            deadline=self._sync.now() + DEADLINE_MS,
        )
        if not store.lease(asked).granted:
            return None
        self._held[token] = (circuit.name, self._sync.monotonic() + longest / 1000)
        return token

    def settle(self, circuit: Circuit, generation: str, token: str, outcome: Outcome) -> Future[None] | None:
        """A trial has ended: its outcome decides, if its lease still holds. None: decided alone."""
        if self._sync.sharing:
            return self._sync.courier.carry(lambda: self._settle(circuit, generation, token, outcome))
        self._settle(circuit, generation, token, outcome, self._sync.local)
        return None

    def _settle(
        self, circuit: Circuit, generation: str, token: str, outcome: Outcome, store: Store | None = None
    ) -> None:
        made = False
        try:
            totals = self._sync.judge.whole_window(circuit, alone=store is not None)
            snapshot = circuit.snapshot
            if snapshot.id == generation:
                now = self._sync.now()
                due = machine.decide(circuit.policy, snapshot, totals, now, trial=(token, outcome))
                made = due is not None and self._sync.make(circuit, snapshot, due, store=store)
        finally:
            self._held.pop(token, None)
        if not made:  # what has no say must not keep the next one out
            self.give_back(circuit, token)

    def give_back(self, circuit: Circuit, token: str) -> None:
        """A trial was given up without an outcome. Nobody waits for it: the lease ends by itself otherwise."""
        self._held.pop(token, None)
        self._sync.local.release(circuit.name, token)
        shared = self._sync.shared
        if self._sync.sharing and shared is not None:
            self._sync.courier.carry(lambda: shared.release(circuit.name, token))
