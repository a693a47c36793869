"""The judge: a failure goes out at once, and comes back with the cluster's totals; was that one too many?"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from breaker.engine import machine
from breaker.engine.haste import haste
from breaker.engine.machine import Snapshot, State
from breaker.engine.stores.base import Call, Pushed, Store, StoreError, Window
from breaker.engine.window import Tally, Totals, total

if TYPE_CHECKING:
    from breaker.engine.sync import Circuit, Sync

Windows = Mapping[str, Sequence[Tally]]
"""Breaker to what its buckets hold."""
LOOK = 0.02
"""Seconds that a process about to open waits for the counts of the others."""


class Judge:
    """Judges the failures of one process."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._reporting = threading.Lock()
        self._reported: set[str] = set()
        self._report: Future[None] | None = None

    def report(self, circuit: Circuit) -> Future[None] | None:
        """A call failed: have the cluster hear of it, and open the circuit if that was one too many.

        Failures that come while the courier is away travel together. None: this process is alone and has judged.
        """
        if not self._sync.sharing:
            self.alone(circuit)
            return None
        with self._reporting:
            self._reported.add(circuit.name)
            underway = self._report
            if underway is not None:
                return underway
            future = self._report = Future()
        return self._sync.courier.carry(self._reports, future)

    def _reports(self) -> None:
        with self._reporting:
            names, self._reported, self._report = self._reported, set(), None
        self.rule_on([self._sync.circuits[name] for name in names])

    def rule_on(self, circuits: Sequence[Circuit]) -> None:
        """Open those of the circuits whose windows ask for it. Raises StoreError."""
        if not circuits:
            return
        with haste():
            pushed = self._pushed(circuits)
            windows = pushed.windows
            suspects = [circuit for circuit in circuits if self._verdict(circuit, windows)]
            others = pushed.live - {self._sync.process}
            if suspects and others:
                windows = self._look(others, suspects)
            opened = [circuit for circuit in suspects if self._open(circuit, windows)]
            if opened and others and self._sync.sharing:
                # Who answers has heard of it: the next call of this caller is rejected by whoever takes it.
                self._look(others, opened)

    def _pushed(self, circuits: Sequence[Circuit]) -> Pushed:
        """Send what was counted of circuits; their windows as the cluster has them."""
        wants = {circuit.name: Window.of(circuit.policy) for circuit in circuits}
        return self._sync.flush(wants=wants, only=circuits)

    def _look(self, others: frozenset[str], circuits: Sequence[Circuit]) -> Windows:
        """The windows once the others have sent what they have: their unsent successes must not be missed when one
        host fails."""
        assert self._sync.shared is not None
        call = Call(secrets.token_hex(8), self._sync.process, [circuit.name for circuit in circuits])
        wants = {circuit.name: Window.of(circuit.policy) for circuit in circuits}
        return self._sync.shared.poll(call, expected=others, seconds=LOOK, wants=wants, now=self._sync.now())

    def _verdict(self, circuit: Circuit, windows: Windows) -> tuple[Snapshot, machine.Transition] | None:
        """The transition that the counts ask for, and the snapshot that it was judged by."""
        snapshot = circuit.snapshot
        if snapshot.state is not State.CLOSED:
            return None
        totals = total(windows[circuit.name], generation=snapshot.id)
        due = machine.decide(circuit.policy, snapshot, totals, self._sync.now())
        return (snapshot, due) if due is not None else None

    def _open(self, circuit: Circuit, windows: Windows, store: Store | None = None) -> bool:
        verdict = self._verdict(circuit, windows)
        return verdict is not None and self._sync.make(circuit, *verdict, store=store)

    def alone(self, circuit: Circuit) -> None:
        """Without the shared store, this process's own window decides."""
        if self._sync.sharing:
            return
        self._sync.link.drain([circuit])
        windows = self._sync.link.keep({circuit.name: Window.of(circuit.policy)}).windows
        self._open(circuit, windows, self._sync.local)  # and never the shared store, should it be back just now

    def whole_window(self, circuit: Circuit, *, alone: bool) -> Totals:
        """All generations' counts, the cluster's or this process's: the evidence that is told with a transition."""
        if not alone and self._sync.sharing:
            try:
                return total(self._pushed([circuit]).windows[circuit.name])
            except StoreError as error:
                self._sync.lose(str(error))
        return self._sync.link.own_totals(circuit)
