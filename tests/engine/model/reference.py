"""The reference: one circuit by the rules of the design, as plain data and straight lines. It knows no concurrency.

A `Head` is what is known of the circuit, a `Store` adds what happened to it. Moments are milliseconds; the only clock
is right, and whoever asks is answered. What workers know of all this, and when, is in members.py.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from breaker.engine.policy import Policy

LEASE, LIVE = 2_000, 1_500
UNGUARDED = 0
"""The generation of a disabled circuit's calls: reported, they decide nothing."""

fresh = itertools.count(1).__next__


def holds(end: int | None, now: int) -> bool:
    return end is None or now < end


class Shown(NamedTuple):
    state: str
    enabled: bool
    forced: bool


@dataclass(frozen=True, kw_only=True)
class Head:
    generation: int
    version: int
    seq: int = 0
    state: str = "CLOSED"
    since: int = 0
    until: int = 0
    force: str | None = None
    force_until: int | None = None
    switch: bool | None = None
    switch_until: int | None = None
    pristine: bool = False
    """Nothing has ever happened to it."""

    def shown(self, policy: Policy, now: int) -> Shown:
        """disabled > forced > computed."""
        switched = self.switch is not None and holds(self.switch_until, now)
        force = self.force if holds(self.force_until, now) else None
        if not (self.switch if switched else policy.enabled):
            return Shown("CLOSED", False, force is not None)
        return Shown(force or self.state, True, force is not None)

    def ended(self, now: int) -> bool:
        """Whether an operator's word has reached its end."""
        force_ended = self.force is not None and not holds(self.force_until, now)
        return force_ended or (self.switch is not None and not holds(self.switch_until, now))

    def moves(self, policy: Policy, now: int) -> bool:
        """Under an operator's word the computed state stands still; a word that has ended is lifted first."""
        shown = self.shown(policy, now)
        return shown.enabled and not shown.forced and not self.ended(now)

    def turned(self, state: str, now: int, *, until: int = 0) -> Head:
        """In another state, by a transition: a new generation."""
        made = fresh()
        return replace(self, generation=made, version=made, state=state, since=now, until=until, pristine=False)

    def lifted(self, now: int) -> Head:
        """CLOSED in a new generation, without the words that have ended."""
        force = {} if holds(self.force_until, now) else {"force": None, "force_until": None}
        switch = {} if holds(self.switch_until, now) else {"switch": None, "switch_until": None}
        return replace(self.turned("CLOSED", now), **force, **switch)

    def acted(self, action: str, end: int | None, now: int) -> Head:
        """After an operator's act."""
        begun = self.turned("CLOSED", now) if action in ("release", "enable", "reset") else self
        no_force, no_switch = {"force": None, "force_until": None}, {"switch": None, "switch_until": None}
        said: dict[str, dict[str, Any]] = {
            "open": {"force": "OPEN", "force_until": end},
            "close": {"force": "CLOSED", "force_until": end},
            "disable": {"switch": False, "switch_until": end},
            "enable": {"switch": True, "switch_until": end},
            "release": no_force,
            "reset": no_force | no_switch,
        }
        return replace(begun, version=fresh(), pristine=False, **said[action])


def newborn(now: int) -> Head:
    made = fresh()
    return Head(generation=made, version=made, since=now, pristine=True)


class Count(NamedTuple):
    width: int
    bucket: int
    generation: int
    kind: str
    """s, f, t or r, as in the engine's tallies."""


def too_many(policy: Policy, totals: Counter[str]) -> bool:
    bad, completed = totals["f"] + totals["t"], totals["s"] + totals["f"] + totals["t"]
    return completed >= policy.volume_threshold and 100 * bad > policy.error_threshold_percentage * completed


class Store:
    """All there is of one circuit: its head, its counts, its trials' leases, and who was heard of when."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.newest = 0
        self.empty()

    def empty(self) -> None:
        self.epoch = fresh()
        self.seq = 0
        self.log: dict[int, tuple[int, int]] = {}
        self.calls: list[tuple[str, int]] = []
        self.head: Head | None = None
        self.counts: list[Count] = []
        self.leases: dict[int, tuple[int, int]] = {}
        self.heard_of: dict[str, int] = {}
        self.pushes: dict[str, int] = {}

    def load(self) -> Head | None:
        return self.head

    def news(self, after: int) -> tuple[dict[int, int], set[str], int]:
        """Since the first so many news: the versions of the writes by their numbers, and who called for counts; how
        many news there were ever."""
        writes = {seq: version for seq, (version, at) in self.log.items() if at > after}
        return writes, {who for who, at in self.calls if at > after}, self.newest

    def call(self, who: str) -> None:
        self.newest += 1
        self.calls.append((who, self.newest))

    def copied(self) -> dict[str, Any]:
        lasting = ("epoch", "seq", "log", "calls", "head", "counts", "leases", "heard_of", "pushes")
        return {name: copy(getattr(self, name)) for name in lasting}

    def goes_back(self, copied: dict[str, Any]) -> None:
        vars(self).update({name: copy(value) for name, value in copied.items()})

    def push(self, worker: str, number: int, counts: Iterable[Count], trials: Iterable[int]) -> None:
        """Counts count once, however often they are sent; a running trial's lease is renewed, if it still stands."""
        now = self.heard_of[worker] = self.now()
        if number > self.pushes.get(worker, 0):
            self.pushes[worker] = number
            self.counts += counts
        for token in trials:
            end, longest = self.leases.get(token, (0, 0))
            if end > now:
                self.leases[token] = (min(now + LEASE, longest), longest)

    def totals(self, policy: Policy, generation: int | None = None) -> Counter[str]:
        newest = self.now() // policy.bucket_width_ms
        window = range(newest - policy.rolling_count_buckets + 1, newest + 1)
        self.counts = [count for count in self.counts if self.now() - count.width * count.bucket < 60_000]
        return Counter(
            count.kind
            for count in self.counts
            if count.width == policy.bucket_width_ms and count.bucket in window
            if generation is None or count.generation == generation
        )

    def write(
        self, over: int | None, after: Head, *, deadline: int, token: int | None = None
    ) -> tuple[bool, Head | None]:
        """Whether the head was `over` and is now `after` (or was so before), and the head that stands."""
        head, now = self.head, self.now()
        if head is not None and head.version == after.version:
            return True, head
        ended = token is not None and self.leases.get(token, (0, 0))[0] <= now
        if (head.version if head else None) != over or now > deadline or ended:
            return False, head
        self.seq += 1
        self.newest += 1
        self.log[self.seq] = (after.version, self.newest)
        self.head = replace(after, seq=self.seq)
        self.leases.clear()
        return True, self.head

    def lease(self, generation: int, token: int, *, slots: int, longest: int, deadline: int) -> bool:
        """The right to try: as many at once as `slots`, each for LEASE unless renewed. A refusal changes nothing."""
        now = self.now()
        standing = [end for end, _ in self.leases.values() if end > now]
        if self.head is None or self.head.generation != generation or now > deadline or len(standing) >= slots:
            return False
        self.leases[token] = (min(now + LEASE, now + longest), now + longest)
        return True

    def release(self, token: int) -> None:
        self.leases.pop(token, None)
