"""What anyone can ask: status of all, health. Every face renders these; none computes."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from breaker import conf
from breaker.engine import desk, machine
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.events import Labels
from breaker.engine.machine import Force, Snapshot, Standing, State
from breaker.engine.policy import Policy
from breaker.engine.stores.base import MINUTE_MS, Record, Store, StoreError, Worker
from breaker.engine.sync import IDLE_BEAT, STALE
from breaker.engine.window import Totals, by_name, total
from breaker.registry import registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One breaker as the cluster has it."""

    name: str
    labels: Labels
    policy: Policy
    snapshot: Snapshot
    standing: Standing
    totals: Totals
    trials: int
    """Trial calls that run."""
    now: int

    @property
    def state(self) -> str:
        return self.standing.state.value

    @property
    def enabled(self) -> bool:
        return self.standing.enabled

    @property
    def forced(self) -> str | None:
        return self.standing.forced.value if self.standing.forced else None

    @property
    def computed_state(self) -> str:
        """What the breaker would do without an operator's force."""
        return self.snapshot.state.value

    @property
    def opened_at(self) -> datetime | None:
        if self.standing.state is not State.OPEN:
            return None
        return _moment(self.snapshot.act_at if self.standing.forced else self.snapshot.since)

    @property
    def retry_after(self) -> int | None:
        """Seconds until a caller may come again, while open."""
        if self.standing.state is not State.OPEN:
            return None
        forced = self.standing.forced is Force.OPEN
        until = self.snapshot.force_until if forced else self.snapshot.until
        left = self.policy.reset_timeout if until is None else (until - self.now) / 1000
        return max(1, -int(-left // 1))

    @property
    def judgement(self) -> str:
        """In words; little traffic is not the same as fine."""
        if not self.enabled:
            return "not guarded"
        if self.standing.forced:
            return f"forced {self.standing.forced.value}"
        if self.standing.state is not State.CLOSED:
            return "failing" if self.standing.state is State.OPEN else "on trial"
        if self.totals.completed < self.policy.volume_threshold:
            return "too little traffic to judge"
        return "fine" if self.totals.deciding_error_rate <= self.policy.error_threshold_percentage else "failing"

    def as_dict(self) -> dict[str, Any]:
        """The JSON that the status endpoint's consumers know: milliseconds, camelCase."""
        entry: dict[str, Any] = {"enabled": self.enabled, "state": self.state, "name": self.name}
        if self.opened_at is not None:
            entry |= {"openedAt": timestamp(self.opened_at), "retryAfter": self.retry_after}
        if self.forced is not None:
            entry["forced"] = self.forced
        return entry | {"stats": _stats(self.totals), "options": _options(self.policy)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All breakers at one moment."""

    shared: bool
    """False: the shared store is away, or none is configured; the numbers are this process's own."""
    at: datetime
    entries: Sequence[Entry]

    @property
    def own(self) -> list[Entry]:
        """The breakers that a service made for its API."""
        return [entry for entry in self.entries if entry.name in registry.own]

    @property
    def custom(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.name not in registry.own]

    def as_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for entry in self.own:
            data.setdefault(entry.labels.group, {})[entry.labels.key] = entry.as_dict()
        data["custom"] = {entry.name: entry.as_dict() for entry in self.custom}
        return data | {"shared": self.shared, "timestamp": timestamp(self.at)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the service's own breakers let calls through."""

    status: Status

    @property
    def healthy(self) -> bool:
        return not any(entry.standing.state is State.OPEN for entry in self.status.own)

    def as_dict(self) -> dict[str, Any]:
        states = [entry.standing.state for entry in self.status.own]
        return {
            "success": True,
            "healthy": self.healthy,
            "summary": {
                "total": len(states),
                "open": states.count(State.OPEN),
                "closed": states.count(State.CLOSED),
                "halfOpen": states.count(State.HALF_OPEN),
            },
            "details": [
                {"name": entry.name, "state": entry.state, "errorRate": percent(entry.totals.error_rate)}
                for entry in (*self.status.own, *self.status.custom)
            ],
            "timestamp": timestamp(self.status.at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What all processes counted of one breaker in one minute of the shared clock."""

    at: datetime
    successes: int = 0
    failures: int = 0
    timeouts: int = 0
    rejects: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The last transition or act of a breaker."""

    at: datetime
    what: str
    """The new state, or the operation: OPEN, disable."""
    actor: str = ""
    """Who acted; "" where the breaker moved by itself."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What an operator who watches sees: all breakers, and what they share."""

    status: Status
    lost: str
    """Why the shared store is not followed; "" while it is."""
    workers: Sequence[Worker]
    age_ms: int
    """How old the numbers are at most: what a process has counted is not yet sent."""
    recent: Mapping[str, Sequence[Minute]]
    """The last ten minutes and the one that runs, oldest first; a minute in which nothing was called is left out."""
    changes: Mapping[str, Change]


def overview() -> Overview:
    """All breakers with their last ten minutes, their last changes, and the processes that guard them."""
    sync = registry.sync
    found = status()
    store = sync.shared if found.shared and sync.shared is not None else sync.local
    workers: Sequence[Worker] = ()
    recent: Mapping[str, Sequence[Minute]] = {}
    with contextlib.suppress(StoreError):  # lost since: the next look says so
        workers, recent = store.heartbeats(), _recent.read(store, _milliseconds_of(found.at))
    return Overview(
        status=found,
        lost="" if found.shared else sync.lost_reason or conf.no_store(),
        workers=workers,
        age_ms=int(IDLE_BEAT * 1000) if found.shared else 0,
        recent=recent,
        changes={entry.name: _change(entry.snapshot) for entry in found.entries},
    )


def renewed(before: Overview, names: Sequence[str]) -> Overview:
    """The same with these breakers as they are now; the others, and what all share, are older by what has passed."""
    found = status(names)
    fresh = {entry.name: entry for entry in found.entries}
    if found.shared != before.status.shared or not {entry.name for entry in before.status.entries}.issuperset(names):
        return overview()
    passed = max(0, _milliseconds_of(found.at) - _milliseconds_of(before.status.at))
    entries = [fresh.get(entry.name, entry) for entry in before.status.entries]
    return replace(
        before,
        status=replace(found, entries=entries),
        workers=[replace(worker, age_ms=worker.age_ms + passed) for worker in before.workers],
        age_ms=before.age_ms + passed,
        changes={**before.changes, **{name: _change(entry.snapshot) for name, entry in fresh.items()}},
    )


def _change(snapshot: Snapshot) -> Change:
    if snapshot.act_at and snapshot.act_at >= snapshot.since:
        said = snapshot.acted
        who = {"actor": said.get("actor", ""), "reason": said.get("reason", "")}
        return Change(at=_moment(snapshot.act_at), what=said.get("action", ""), **who)
    return Change(at=_moment(snapshot.since), what=snapshot.state.value)


class _Recent:
    """The last minutes as a store has them. One that ended a minute ago is read once: few counts come later."""

    MINUTES = 10
    SETTLED = 1

    def __init__(self) -> None:
        self._store: Store | None = None
        self._settled: dict[int, dict[str, Totals]] = {}

    def read(self, store: Store, now: int) -> dict[str, list[Minute]]:
        newest = now // MINUTE_MS
        numbers = range(newest - self.MINUTES, newest + 1)
        if store is not self._store:
            self._store, self._settled = store, {}
        settled = self._settled
        read = store.minutes([number for number in numbers if number not in settled])
        found = {number: by_name(tally) for number, tally in read.items()}
        found |= {number: settled[number] for number in numbers if number in settled}
        self._settled = {number: counted for number, counted in found.items() if number < newest - self.SETTLED}
        recent: dict[str, list[Minute]] = {}
        for number in numbers:
            for name, totals in found[number].items():
                recent.setdefault(name, []).append(_minute(number, totals))
        return recent


_recent = _Recent()


def _minute(number: int, totals: Totals) -> Minute:
    return Minute(
        at=_moment(number * MINUTE_MS),
        successes=totals.successes,
        failures=totals.failures,
        timeouts=totals.timeouts,
        rejects=totals.rejects,
    )


def status(names: Sequence[str] | None = None, *, must_share: bool = False, percentiles: bool = True) -> Status:
    """All breakers of the cluster that were seen within a day, or the named ones.

    Without the shared store: this process's own, unless `must_share`; then StoreError. Who does without `percentiles`
    is answered sooner.
    """
    sync = registry.sync
    records, shared = desk.read(sync, names, histograms=percentiles)
    if must_share and not shared:
        raise StoreError(sync.lost_reason or conf.no_store())
    # As this process made them, which is how their owner thinks of them; others by name behind.
    own = registry.circuits
    order = [name for name in own if name in records.records] + sorted(records.records.keys() - own.keys())
    found = (_entry(records.records[name], own.get(name), records.now) for name in order)
    return Status(shared=shared, at=_moment(records.now), entries=[entry for entry in found if entry is not None])


def health() -> Health:
    return Health(status=status())


def open_here(names: Collection[str] = ()) -> list[str]:
    """Which of the breakers that this process has made are open, as it knows the cluster at this moment.

    Asks nobody. (A process that has guarded nothing yet waits at most 100 ms, once, to get to know the cluster.)

    Looks at `names`; without any at the service's own, and where it has none at all. Raises LookupError for a name
    that no breaker of this process bears.
    """
    made, sync = registry.circuits, registry.sync
    if unknown := [name for name in names if name not in made]:
        raise LookupError(f"no breaker {unknown[0]!r} here; there are {', '.join(made) or 'none'}")
    if made and sync.monotonic() - sync.beat_at > STALE:
        sync.revive()
    looked_at = names or registry.own & made.keys() or made
    states = {name: machine.standing(made[name].policy, made[name].snapshot, sync.now()).state for name in looked_at}
    return [name for name in made if states.get(name) is State.OPEN]


def known_names() -> list[str]:
    """Every breaker that an operator can name."""
    return [entry.name for entry in status().entries]


def _entry(record: Record, own: SharedCircuitBreaker | None, now: int) -> Entry | None:
    """A breaker by this process's own making, or as another process registered it."""
    if own is not None:
        labels, policy = own.labels, own.policy
    elif record.registration is not None:
        labels, policy = _labels(record.registration.labels), record.registration.policy
    else:
        return None
    snapshot = record.snapshot or machine.newborn(now)
    return Entry(
        name=record.name,
        labels=labels,
        policy=policy,
        snapshot=snapshot,
        standing=machine.standing(policy, snapshot, now),
        totals=total(record.tallies),
        trials=record.trials,
        now=now,
    )


def _labels(registered: Mapping[str, str]) -> Labels:
    """Those that this version knows: during a roll-out a newer one may have registered more."""
    return Labels(**{name: registered[name] for name in ("service", "group", "key") if name in registered})


def _stats(totals: Totals) -> dict[str, Any]:
    return {
        "fires": totals.fires,
        "successes": totals.successes,
        "failures": totals.failures,
        "rejects": totals.rejects,
        "timeouts": totals.timeouts,
        "fallbacks": totals.fallbacks,
        "latencyMean": _milliseconds(totals.latency_mean),
        "errorRate": percent(totals.error_rate),
        "decidingErrorRate": percent(totals.deciding_error_rate),
        "percentiles": {f"p{rank}": _milliseconds(totals.percentile(rank / 100)) for rank in (50, 90, 95, 99)},
    }


def _options(policy: Policy) -> dict[str, Any]:
    return {
        "timeout": _whole(policy.timeout * 1000),
        "errorThresholdPercentage": _whole(policy.error_threshold_percentage),
        "resetTimeout": _whole(policy.reset_timeout * 1000),
        "volumeThreshold": policy.volume_threshold,
        "rollingCountTimeout": _whole(policy.rolling_count_timeout * 1000),
        "rollingCountBuckets": policy.rolling_count_buckets,
    }


def percent(value: float) -> str:
    return f"{value:.2f}%"


def timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds_of(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else round(number, 3)
