"""The transition table and decide(policy, snapshot, totals, now); pure. The only place that knows when a circuit opens.

    state      what happens                                      next state
    ---------  ------------------------------------------------  ----------
    CLOSED     volume reached and error rate above threshold     OPEN
    OPEN       reset_timeout has passed                          HALF_OPEN
    HALF_OPEN  the holder of the trial's lease succeeds          CLOSED
    HALF_OPEN  the holder of the trial's lease fails             OPEN

Over that stands what an operator said: disabled > forced > computed. Meanwhile the computed state stands still.
Times are milliseconds on the shared store's clock.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import secrets
from dataclasses import dataclass, field
from typing import Any

from breaker.engine.policy import Policy
from breaker.engine.window import Outcome, Totals


class State(enum.Enum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Force(enum.Enum):
    """What an operator made of a circuit."""

    OPEN = "open"
    CLOSED = "closed"


def new_generation() -> str:
    """A random id for a generation: numbers repeat when a store is lost, ids do not."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A circuit's running state as one store holds it."""

    id: str
    """The generation's random id."""
    rev: str
    """The id of the last write: a transition's or an act's. A store writes only over the rev that the writer saw."""
    seq: int = 0
    """The store's count of writes over all circuits when this one was written."""
    generation: int = 1
    state: State = State.CLOSED
    since: int = 0
    """When this state began, ms."""
    until: int = 0
    """OPEN only: when a trial may follow, ms."""
    force: Force | None = None
    force_until: int | None = None
    """When the force ends by itself, ms; None: not before it is released."""
    switch: bool | None = None
    """The operator's enable (True) or disable (False); None: the policy's `enabled` holds."""
    switch_until: int | None = None
    act_at: int = 0
    """When the last operator's act was applied, ms; orders acts that are applied again."""
    acted: dict[str, str] = field(default_factory=dict)
    """The last operator's act: action, actor, source and reason."""
    why: dict[str, Any] = field(default_factory=dict)
    """The counts behind the last transition."""

    def forced(self, now: int) -> Force | None:
        return self.force if self.force and _holds(self.force_until, now) else None

    def enabled(self, policy: Policy, now: int) -> bool:
        if self.switch is not None and _holds(self.switch_until, now):
            return self.switch
        return policy.enabled

    def expired(self, now: int) -> bool:
        """Whether an operator's act has reached its end and waits to be lifted."""
        return (self.force is not None and not _holds(self.force_until, now)) or (
            self.switch is not None and not _holds(self.switch_until, now)
        )

    @property
    def pristine(self) -> bool:
        """Whether nothing has ever happened to it: whoever made it knew nothing."""
        return self.generation == 1 and self.act_at == 0

    def ends(self) -> list[int]:
        """The moments at which this circuit changes without any call, ms."""
        due = [self.until] if self.state is State.OPEN else []
        return due + [end for end in (self.force_until, self.switch_until) if end is not None]


def newborn(now: int) -> Snapshot:
    """A circuit that nobody has seen before."""
    generation = new_generation()
    return Snapshot(id=generation, rev=generation, since=now)


def _holds(until: int | None, now: int) -> bool:
    return until is None or now < until


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What counts for a call: the operator's word over the computed state."""

    state: State
    """The state shown: a forced circuit shows its force, a disabled one CLOSED."""
    passes: bool
    """Calls go through without asking anyone."""
    enabled: bool
    forced: Force | None


def standing(policy: Policy, snapshot: Snapshot, now: int) -> Standing:
    enabled, forced = snapshot.enabled(policy, now), snapshot.forced(now)
    if not enabled:
        return Standing(state=State.CLOSED, passes=True, enabled=False, forced=forced)
    state = snapshot.state if forced is None else State[forced.name]
    return Standing(state=state, passes=state is State.CLOSED, enabled=True, forced=forced)


def stood(policy: Policy, snapshot: Snapshot, now: int) -> dict[str, Any]:
    """What an event tells of the state that it ended: `from`, as shown, and the ms that it had `lasted`."""
    here = standing(policy, snapshot, now)
    since = snapshot.act_at if here.forced or not here.enabled else snapshot.since
    return {"from": here.state.value, "lasted": max(0, now - since)}


def stands_still(policy: Policy, snapshot: Snapshot, now: int) -> bool:
    """Whether the computed state may not move: under an operator's word, and until one that has ended is lifted."""
    here = standing(policy, snapshot, now)
    return not here.enabled or here.forced is not None or snapshot.expired(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of the computed state that is due."""

    id: str
    before: State
    after: State
    reset_ms: int
    """How long OPEN lasts."""
    why: dict[str, Any] = field(default_factory=dict)
    token: str | None = None
    """The trial's lease, when its outcome is the reason."""


def decide(
    policy: Policy,
    snapshot: Snapshot,
    totals: Totals | None,
    now: int,
    *,
    trial: tuple[str, Outcome] | None = None,
    waited_ms: int = 0,
) -> Transition | None:
    """The transition that is due, or None.

    `totals` are the current generation's while CLOSED, and otherwise the whole window's, as evidence. `trial` is the
    lease's token and the outcome of the call that held it.
    A clock that stepped back never makes OPEN last longer than `reset_timeout`: `waited_ms`, which is monotonic,
    counts as well.
    """
    if stands_still(policy, snapshot, now):
        return None
    match snapshot.state:
        case State.CLOSED if totals is not None and _too_many(policy, totals):
            return _move(policy, snapshot, State.OPEN, why=evidence(totals))
        case State.OPEN if now >= snapshot.until or waited_ms >= snapshot.until - snapshot.since:
            return _move(policy, snapshot, State.HALF_OPEN, why=evidence(totals))
        case State.HALF_OPEN if trial is not None:
            token, outcome = trial
            after = State.CLOSED if outcome is Outcome.SUCCESS else State.OPEN
            return _move(policy, snapshot, after, token=token, why={"trial": outcome.name.lower(), **evidence(totals)})
    return None


def _too_many(policy: Policy, totals: Totals) -> bool:
    return (
        totals.completed >= policy.volume_threshold and totals.deciding_error_rate > policy.error_threshold_percentage
    )


def evidence(totals: Totals | None) -> dict[str, Any]:
    """What a transition's event and log line say of the counts."""
    return (
        {}
        if totals is None
        else {
            "successes": totals.successes,
            "failures": totals.failures,
            "timeouts": totals.timeouts,
            "errorRate": round(totals.deciding_error_rate, 2),
            "processes": totals.processes,
            "hosts": totals.hosts,
        }
    )


def _move(policy: Policy, snapshot: Snapshot, after: State, **more: Any) -> Transition:
    return Transition(
        id=new_generation(),
        before=snapshot.state,
        after=after,
        reset_ms=math.ceil(policy.reset_timeout * 1000),
        **more,
    )


def apply(snapshot: Snapshot, transition: Transition, now: int) -> Snapshot:
    """The snapshot after a transition that was made at `now`."""
    return dataclasses.replace(
        snapshot,
        id=transition.id,
        rev=transition.id,
        generation=snapshot.generation + 1,
        state=transition.after,
        since=now,
        until=now + transition.reset_ms if transition.after is State.OPEN else 0,
        why=transition.why,
    )


class Action(enum.Enum):
    """What an operator can do to a circuit."""

    OPEN = "open"
    CLOSE = "close"
    RELEASE = "release"
    DISABLE = "disable"
    ENABLE = "enable"
    RESET = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One operator's act on one circuit."""

    id: str
    action: Action
    for_ms: int | None = None
    """How long a force, a disable or an enable lasts; None: until released."""
    until: int | None = None
    """The same as a moment, ms, when an act is applied again."""
    act_at: int | None = None
    """Set when an act is applied again: it then yields to any newer one."""
    actor: str = ""
    source: str = ""
    reason: str = ""


def act_on(snapshot: Snapshot, act: Act, now: int) -> Snapshot:
    """The snapshot after an operator's act at `now`.

    Open and close force; release lifts the force, enable and disable turn the guard on and off, reset lifts all.
    Release, enable and reset start CLOSED in a new generation.
    """
    until = act.until if act.until is not None else (now + act.for_ms if act.for_ms is not None else None)
    changed: dict[str, Any]
    match act.action:
        case Action.OPEN | Action.CLOSE:
            changed = {"force": Force.OPEN if act.action is Action.OPEN else Force.CLOSED, "force_until": until}
        case Action.DISABLE:
            changed = {"switch": False, "switch_until": until}
        case Action.RELEASE:
            changed = {"force": None, "force_until": None, **_fresh(snapshot, now)}
        case Action.ENABLE:
            changed = {"switch": True, "switch_until": until, **_fresh(snapshot, now)}
        case Action.RESET:
            changed = {"force": None, "force_until": None, "switch": None, "switch_until": None}
            changed |= _fresh(snapshot, now)
    acted = {"action": act.action.value, "actor": act.actor, "source": act.source, "reason": act.reason}
    return dataclasses.replace(snapshot, rev=act.id, act_at=act.act_at or now, acted=acted, **changed)


def lift_expired(snapshot: Snapshot, now: int) -> Snapshot:
    """The snapshot once acts whose time has ended are lifted: CLOSED, in a new generation."""
    changed: dict[str, Any] = {}
    if snapshot.force is not None and not _holds(snapshot.force_until, now):
        changed |= {"force": None, "force_until": None}
    if snapshot.switch is not None and not _holds(snapshot.switch_until, now):
        changed |= {"switch": None, "switch_until": None}
    if not changed:
        return snapshot
    fresh = _fresh(snapshot, now)
    return dataclasses.replace(snapshot, rev=fresh["id"], **changed, **fresh)


def _fresh(snapshot: Snapshot, now: int) -> dict[str, Any]:
    return {
        "id": new_generation(),
        "generation": snapshot.generation + 1,
        "state": State.CLOSED,
        "since": now,
        "until": 0,
        "why": {},
    }
