"""The desk: what operators do to the cluster's circuits, and what readers see of them.

Unlike calls they may wait, and are told when the shared store is away.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from breaker.engine import machine
from breaker.engine.machine import Action, Snapshot
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Record, Records, Store, StoreError, Window, Write, Written
from breaker.engine.sync import Sync

INSIST = 1.0
"""Seconds for which an act is tried."""
AGAIN = 0.1
"""Seconds between tries; also how long a store may take to begin with an act."""


class Overtaken(Exception):
    """The circuit is no longer what the operator saw."""


def seen(snapshot: Snapshot) -> str:
    """What to give back to `act`. A newborn's rev is made up at each look."""
    return "new" if snapshot.pristine else snapshot.rev


def act(
    sync: Sync, name: str, act: machine.Act, event: Mapping[str, Any], *, over: str | None = None
) -> tuple[Snapshot, Snapshot]:
    """Apply an operator's act to one circuit of the cluster; the snapshots before and after.

    `over`: only to what was `seen`, else Overtaken; None: to whatever there is. An act that is applied again (`act_at`)
    yields to a newer one. Raises StoreError when the shared store is away.
    """
    store = sync.shared or sync.local
    deadline = sync.monotonic() + INSIST
    while sync.monotonic() < deadline:
        loaded = store.load([name])
        found = loaded.records[name].snapshot
        before = found or machine.newborn(loaded.now)
        if over is not None and over != seen(before):
            raise Overtaken("others have changed it since it was seen")
        if act.act_at is not None and (before.act_at >= act.act_at or _lifts_nothing(before, act)):
            return before, before
        after = machine.act_on(before, act, loaded.now)
        policy = _policy(sync, loaded.records[name])
        now_stands = machine.standing(policy, after, loaded.now)
        write = Write(
            name=name,
            expected=found.rev if found else None,
            after=after,
            event={**event, **machine.stood(policy, before, loaded.now), "to": now_stands.state.value},
            deadline=loaded.now + int(AGAIN * 1000),
        )
        written, sure = _insist(sync, store, write, deadline)
        if not sure and not written.won:
            raise StoreError("the answer was lost and others have changed the circuit since: perhaps it was done")
        if written.won and written.current is not None:
            if name in sync.circuits:
                sync.take(sync.circuits[name], written.current, store)
            return before, written.current
    raise StoreError("others changed the circuit again and again; try once more")


def _policy(sync: Sync, record: Record) -> Policy:
    circuit = sync.circuits.get(record.name)
    if circuit is not None:
        return circuit.policy
    return record.registration.policy if record.registration else Policy()


def _lifts_nothing(before: Snapshot, act: machine.Act) -> bool:
    """Whether an act that is applied again finds nothing to lift: it must not close what has opened since."""
    return act.action in (Action.RELEASE, Action.RESET) and before.force is None and before.switch is None


def _insist(sync: Sync, store: Store, write: Write, deadline: float) -> tuple[Written, bool]:
    """Write; where the answer is lost ask again, for a write that was made says so however late it is asked. And
    whether no answer was lost: one that was may have been made, and undone by another."""
    sure = True
    while True:
        try:
            return store.write(write), sure
        except StoreError:
            if not sure and (sync.monotonic() + AGAIN >= deadline or not sync.has_threads):
                raise
            sure = False
            if sync.has_threads:
                time.sleep(AGAIN)


def read(sync: Sync, names: Sequence[str] | None = None, *, histograms: bool = True) -> tuple[Records, bool]:
    """Circuits with their windows, and whether they are the cluster's (after sending what was counted here) or this
    process's alone. `histograms`: of latencies too, which are the greater part."""
    windows = {circuit.name: Window.of(circuit.policy) for circuit in list(sync.circuits.values())}
    asks = sync.sharing or not sync.started  # a command asks for itself, without joining
    if sync.shared is not None and asks:
        try:
            if sync.sharing:
                sync.flush()
            found = sync.shared.load(names, windows=windows, histograms=histograms)
            unseen = [name for name in windows if name not in found.records] if names is None else []
            more = sync.shared.load(unseen, windows=windows, histograms=histograms).records if unseen else {}
            return dataclasses.replace(found, records={**found.records, **more}), True
        except StoreError as error:
            sync.lose(str(error))
    sync.link.drain()
    sync.link.keep()
    return sync.local.load(list(windows) if names is None else names, windows=windows), False
