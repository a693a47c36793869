"""The Store port: what the engine asks of whatever remembers circuits.

A store adds counters, compares and sets, and leases. It knows no thresholds. Times are milliseconds on the store's
clock, which every answer carries.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from breaker.engine.machine import Force, Snapshot, State
from breaker.engine.policy import Policy
from breaker.engine.window import CHANGES, Tally

LEASE_MS = 2_000
"""A trial's lease without renewal: what a killed worker can cost."""
LIVE_MS = 1_500
"""A process that has not been heard of for this long is not waited for."""
UNHEARD_MS = 60_000
"""A process that has not been heard of for this long is no worker any more."""
UNSEEN_MS = 24 * 3600 * 1000
"""Breakers that nobody has registered for this long vanish."""
REMEMBERED = 10_000
"""Events that the stream keeps, about."""
REMEMBERED_AT_MOST = 100_000
"""And while they wait for whoever stores history: some 80 MB."""
FOLLOWED_MS = 60_000
"""No event is dropped so soon because it is stored: others may not have followed it yet."""
MINUTE_MS = 60_000
MINUTES_KEPT_MS = 2 * 3600 * 1000
"""For so long a store keeps what was counted in a minute, for whoever stores history."""


class StoreError(Exception):
    """The store could not be asked, or answered nonsense. What was asked may still happen, until its deadline."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which buckets of a breaker to read: `buckets` of `width_ms` each, the newest holding `now`."""

    width_ms: int
    buckets: int

    @classmethod
    def of(cls, policy: Policy) -> Window:
        return cls(policy.bucket_width_ms, policy.rolling_count_buckets)

    def numbers(self, now: int) -> range:
        newest = now // self.width_ms
        return range(newest - self.buckets + 1, newest + 1)

    @property
    def length_ms(self) -> int:
        return self.width_ms * self.buckets


@dataclass(frozen=True, slots=True)
class Bucket:
    """One slice of one breaker's window."""

    name: str
    width_ms: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a process has counted since its last push, sent once however often it is repeated."""

    process: str
    sequence: int
    counts: Mapping[Bucket, Tally] = field(default_factory=dict)
    keep_ms: int = 0
    """How long the counts are of use."""
    now: int = 0
    """The sender's reading of the store's clock, ms: which buckets are the newest."""
    wants: Mapping[str, Window] = field(default_factory=dict)
    """Breakers whose window is to come back."""
    renewals: Sequence[tuple[str, str]] = ()
    """(breaker, token) of the trials still running here."""
    answers: Sequence[str] = ()
    """The ids of the calls for counts that this push answers."""
    minutes: Mapping[int, Tally] = field(default_factory=dict)
    """The same counts for history: number of a minute on the store's clock to what all breakers counted in it."""
    totals: Mapping[str, Tally] = field(default_factory=dict)
    """And for running totals: breaker, or what else is counted, to its fields."""
    host: str = ""
    followed: int = 0
    """The number of the newest write that the sender has followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    now: int
    epoch: str
    """Random, made with the store's data: another one means that the store was emptied."""
    seq: int
    """The count of writes so far: a higher one than last seen means that something was missed."""
    live: frozenset[str]
    """Processes heard of within LIVE_MS."""
    windows: Mapping[str, Sequence[Tally]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A compare-and-set of one circuit."""

    name: str
    expected: str | None
    """The rev to write over; None: only if the circuit is not there."""
    after: Snapshot
    event: Mapping[str, Any] = field(default_factory=dict)
    """What happened, for the stream; empty: nothing worth telling."""
    deadline: int
    """Refused after this moment."""
    not_before: int = 0
    """Refused before this moment."""
    token: str | None = None
    """Refused unless this lease is held; a write drops all leases."""

    @property
    def change(self) -> str:
        """The field of the running totals that counts this change of the state that calls meet; "" where there is none.
        An act that is applied again was counted the first time."""
        before, after = self.event.get("from"), self.event.get("to")
        return "" if before == after or "again" in self.event else f"{CHANGES}|{before}|{after}"

    @property
    def opens(self) -> bool:
        """Whether calls then meet an open circuit."""
        if self.event:
            return self.event.get("to") == State.OPEN.value
        if self.after.force is not None or self.after.switch is False:
            return self.after.force is Force.OPEN and self.after.switch is not False
        return self.after.state is State.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    won: bool
    """True also when this very write had already been made."""
    now: int
    current: Snapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    name: str
    generation: str
    token: str
    slots: int
    longest_ms: int
    """No renewal beyond this."""
    deadline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    granted: bool
    now: int
    """A refusal changes nothing: it never extends the lease that stands in its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What others may know of a breaker that this process has."""

    name: str
    labels: Mapping[str, str]
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that a store knows of a breaker."""

    name: str
    snapshot: Snapshot | None
    registration: Registration | None
    tallies: Sequence[Tally] = ()
    trials: int = 0
    """Trial calls that hold a lease; read with the windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    now: int
    epoch: str
    seq: int
    records: Mapping[str, Record]


@dataclass(frozen=True, slots=True)
class Call:
    """A call for counts: every process is to push, under this id, what it has of these breakers."""

    id: str
    process: str
    """Who calls."""
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the stream brought."""

    cursor: str
    changed: Sequence[tuple[str, Snapshot]] = ()
    calls: Sequence[Call] = ()
    """Calls for counts to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A write of a circuit that is worth telling, as the stream has it."""

    cursor: str
    name: str
    rev: str
    at: int
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that guards calls."""

    process: str
    host: str
    age_ms: int
    """Since its last push."""
    behind: int
    """Writes that it has not followed."""


class Store(Protocol):
    """Every method raises StoreError when the store cannot be asked."""

    def push(self, push: Push) -> Pushed: ...

    def write(self, write: Write) -> Written: ...

    def lease(self, request: LeaseRequest) -> Leased: ...

    def release(self, name: str, token: str) -> None: ...

    def load(
        self,
        names: Sequence[str] | None = None,
        *,
        windows: Mapping[str, Window] | None = None,
        histograms: bool = True,
    ) -> Records:
        """Circuits, all seen within UNSEEN_MS or the named; with `windows`, their counts too, and their histograms.

        A breaker without an entry in `windows` is read by the policy that it was registered with.
        """

    def register(self, registrations: Sequence[Registration]) -> None: ...

    def cursor(self) -> str:
        """Where the stream ends now."""

    def listen(self, cursor: str, *, seconds: float) -> Heard:
        """Wait at most `seconds` for news after `cursor`. One thread of a process listens at a time."""

    def hang_up(self) -> None:
        """End what listening keeps open; the next `listen` begins anew."""

    def poll(
        self, call: Call, *, expected: frozenset[str], seconds: float, wants: Mapping[str, Window], now: int
    ) -> Mapping[str, Sequence[Tally]]:
        """Have every other process push what it has, and then read windows.

        Waits for all `expected` to have done so, at most `seconds`. `now` is the caller's reading of the store's clock.
        """

    def claim(self, key: str, *, milliseconds: int) -> bool:
        """Whether this process is the first in the cluster to claim `key` for so long."""

    # History: whoever keeps it for longer reads what happened, stores it, and only then says so. Where that word is
    # lost, it is read again; storing it again must change nothing.

    def past(self, count: int) -> Sequence[Event]:
        """The oldest events that are not stored yet."""

    def stored(self, cursor: str) -> None:
        """The events up to this one are."""

    def due_minutes(self) -> Mapping[int, str]:
        """The minutes that were counted into since they were stored, each with a mark to give back."""

    def minute(self, number: int) -> tuple[str, Tally]:
        """The store's epoch, and what all breakers counted in that minute, their histograms too."""

    def minutes(self, numbers: Sequence[int]) -> Mapping[int, Tally]:
        """What they counted in these, without histograms."""

    def stored_minutes(self, marks: Mapping[int, str]) -> None: ...

    # Running totals: what was ever counted of a breaker, or under another name. They are the store's own, and begin
    # anew with it: who has told of them gives back what he told, and only then are they what they were.

    def totals(self, names: Sequence[str]) -> Mapping[str, Tally]:
        """The running totals of those that have been founded."""

    def found(self, known: Mapping[str, Tally]) -> None:
        """Found running totals on what was known of them before. Where they are founded already, none is lower then
        than what was known."""

    def heartbeats(self) -> Sequence[Worker]:
        """The processes heard of within a minute."""

    def renew_after_fork(self) -> None:
        """Called in a forked child before its first use."""


def encode(snapshot: Snapshot) -> str:
    """A snapshot as JSON, without what the store keeps beside it (rev and seq)."""
    fields = dataclasses.asdict(snapshot)
    fields["state"] = snapshot.state.value
    fields["force"] = snapshot.force.value if snapshot.force else None
    del fields["rev"], fields["seq"]
    return json.dumps(fields, separators=(",", ":"))


KEPT = 10_000
"""What was read before is not read again: of a hundred readings hardly one finds another snapshot or registration."""
_FIELDS = {field.name for field in dataclasses.fields(Snapshot)}


@functools.lru_cache(maxsize=KEPT)
def decode(data: str, *, rev: str, seq: int) -> Snapshot:
    """The snapshot that `encode` wrote. Raises ValueError, KeyError or TypeError when it is not one.

    Fields that this version does not know, written by a newer one during a roll-out, are passed over.
    """
    fields = {key: value for key, value in json.loads(data).items() if key in _FIELDS}
    fields["state"] = State(fields["state"])
    fields["force"] = Force(fields["force"]) if fields["force"] else None
    return Snapshot(**fields, rev=rev, seq=seq)


def encode_registration(registration: Registration) -> str:
    return json.dumps({"labels": dict(registration.labels), "policy": dataclasses.asdict(registration.policy)})


@functools.lru_cache(maxsize=KEPT)
def decode_registration(name: str, data: str) -> Registration:
    fields = json.loads(data)
    known = {field.name for field in dataclasses.fields(Policy)}
    options = {key: value for key, value in fields["policy"].items() if key in known}
    return Registration(name=name, labels=fields["labels"], policy=Policy(**options))
