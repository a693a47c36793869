"""The store in this process's memory: for a process alone, and for tests as a store that many share."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from breaker.engine.machine import Snapshot, new_generation
from breaker.engine.stores.base import (
    LEASE_MS,
    LIVE_MS,
    MINUTE_MS,
    MINUTES_KEPT_MS,
    REMEMBERED,
    UNHEARD_MS,
    UNSEEN_MS,
    Bucket,
    Call,
    Event,
    Heard,
    Leased,
    LeaseRequest,
    Push,
    Pushed,
    Record,
    Records,
    Registration,
    Window,
    Worker,
    Write,
    Written,
)
from breaker.engine.window import OPEN_MS, SLOT, Tally, merge


@dataclasses.dataclass(slots=True)
class _Lease:
    until: int
    longest: int


class MemoryStore:
    """Does what the Redis scripts do, under one lock. `clock` gives milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.renew_after_fork()
        self._empty()

    def _empty(self) -> None:
        self._epoch = new_generation()
        self._seq = 0
        self._circuits: dict[str, Snapshot] = {}
        self._registered: dict[str, tuple[int, Registration]] = {}
        self._counts: dict[Bucket, tuple[int, Tally]] = {}
        self._leases: dict[str, dict[str, _Lease]] = defaultdict(dict)
        self._seen: dict[str, int] = {}
        self._sequences: dict[str, int] = {}
        self._news: list[tuple[str, Snapshot] | Call] = []
        self._forgotten = 0
        self._awaited: dict[str, set[str]] = {}
        self._claims: dict[str, int] = {}
        self._past: deque[Event] = deque(maxlen=REMEMBERED)
        self._happened = 0
        self._minutes: dict[int, tuple[int, Tally]] = {}
        self._stored: dict[int, str] = {}
        self._workers: dict[str, tuple[int, int, str]] = {}
        self._totals: dict[str, Tally] = defaultdict(dict)
        self._open_since: dict[str, int] = {}
        self._founded: set[str] = set()

    def renew_after_fork(self) -> None:
        self._lock = threading.RLock()
        self._told = threading.Condition(self._lock)

    # -- counts ----------------------------------------------------------------------------------------------------

    def push(self, push: Push) -> Pushed:
        with self._lock:
            now = self._clock()
            if push.sequence > self._sequences.get(push.process, 0):
                self._sequences[push.process] = push.sequence
                self._add(push, now)
            self._seen[push.process] = now
            self._workers[push.process] = (now, push.followed, push.host)
            for name, token in push.renewals:
                self._renew(name, token, now)
            for call in self._awaited.keys() & set(push.answers):
                self._awaited[call].discard(push.process)
                self._told.notify_all()
            return Pushed(
                now=now,
                epoch=self._epoch,
                seq=self._seq,
                live=frozenset(process for process, at in self._seen.items() if now - at <= LIVE_MS),
                windows={name: self._window(name, window, now) for name, window in push.wants.items()},
            )

    def _add(self, push: Push, now: int) -> None:
        for bucket in [bucket for bucket, (end, _) in self._counts.items() if end <= now]:
            del self._counts[bucket]
        for bucket, more in push.counts.items():
            _, held = self._counts.get(bucket, (0, {}))
            merge(held, more)
            self._counts[bucket] = (now + push.keep_ms, held)
        for number, more in push.minutes.items():
            mark, held = self._minutes.get(number, (0, {}))
            merge(held, more)
            self._minutes[number] = (mark + 1, held)
        for name, more in push.totals.items():
            merge(self._totals[name], more)
        for number in [number for number in self._minutes if number < (now - MINUTES_KEPT_MS) // MINUTE_MS]:
            del self._minutes[number]
            self._stored.pop(number, None)

    def _window(self, name: str, window: Window, now: int) -> list[Tally]:
        buckets = (Bucket(name, window.width_ms, number) for number in window.numbers(now))
        return [dict(self._counts[bucket][1]) for bucket in buckets if bucket in self._counts]

    # -- circuits --------------------------------------------------------------------------------------------------

    def write(self, write: Write) -> Written:
        with self._lock:
            now, current = self._clock(), self._circuits.get(write.name)
            if current is not None and current.rev == write.after.rev:
                return Written(won=True, now=now, current=current)
            if not self._may(write, current, now):
                return Written(won=False, now=now, current=current)
            self._seq += 1
            after = dataclasses.replace(write.after, seq=self._seq)
            self._circuits[write.name] = after
            self._total(write, now)
            self._leases.pop(write.name, None)
            self._tell((write.name, after))
            if write.event:
                self._happened += 1
                cursor = str(self._happened)
                self._past.append(Event(cursor=cursor, name=write.name, rev=after.rev, at=now, event=write.event))
            return Written(won=True, now=now, current=after)

    def _total(self, write: Write, now: int) -> None:
        more = {write.change: 1} if write.change else {}
        if (since := self._open_since.pop(write.name, None)) is not None:
            more[OPEN_MS] = max(0, now - since)
        merge(self._totals[write.name], more)
        if write.opens:
            self._open_since[write.name] = now

    def _may(self, write: Write, current: Snapshot | None, now: int) -> bool:
        if (current.rev if current else None) != write.expected or not write.not_before <= now <= write.deadline:
            return False
        if write.token is None:
            return True
        lease = self._leases[write.name].get(write.token)
        return lease is not None and lease.until > now

    def adopt(self, circuits: Mapping[str, Snapshot], leases: Sequence[tuple[str, str, int]] | None = None) -> None:
        """Take over what another store held: circuits, and (name, token, longest until) of own trials.

        Without `leases` those held here stay.
        """
        with self._lock:
            now = self._clock()
            self._circuits.update(circuits)
            if leases is None:
                return
            self._leases.clear()
            for name, token, longest in leases:
                self._leases[name][token] = _Lease(min(now + LEASE_MS, longest), longest)

    def shift(self, milliseconds: int) -> None:
        """The clock was set: move all that is held along with it."""
        with self._lock:
            now = self._clock()
            moved: dict[Bucket, tuple[int, Tally]] = {}
            for bucket, (end, held) in self._counts.items():
                # By whole buckets, and none into the future, where no window would find it.
                number = min(bucket.number + round(milliseconds / bucket.width_ms), now // bucket.width_ms)
                _, both = moved.setdefault(dataclasses.replace(bucket, number=number), (end + milliseconds, {}))
                merge(both, held)
            self._counts = moved
            self._circuits = {name: shifted(one, milliseconds) for name, one in self._circuits.items()}
            self._open_since = {name: at + milliseconds for name, at in self._open_since.items()}
            for leases in self._leases.values():
                for lease in leases.values():
                    lease.until += milliseconds
                    lease.longest += milliseconds
            self._registered = {name: (at + milliseconds, one) for name, (at, one) in self._registered.items()}
            self._seen.clear()
            self._claims.clear()

    def load(
        self,
        names: Sequence[str] | None = None,
        *,
        windows: Mapping[str, Window] | None = None,
        histograms: bool = True,
    ) -> Records:
        with self._lock:
            now = self._clock()
            seen = (name for name, (at, _) in self._registered.items() if now - at < UNSEEN_MS)
            wanted = seen if names is None else names
            records = {name: self._record(name, windows, now) for name in wanted}
            return Records(now=now, epoch=self._epoch, seq=self._seq, records=records)

    def _record(self, name: str, windows: Mapping[str, Window] | None, now: int) -> Record:
        _, registration = self._registered.get(name, (0, None))
        tallies: list[Tally] = []
        trials = 0
        if windows is not None:
            trials = len(self._held(name, now))
            window = windows.get(name) or (Window.of(registration.policy) if registration else None)
            tallies = self._window(name, window, now) if window else []
        return Record(
            name=name, snapshot=self._circuits.get(name), registration=registration, tallies=tallies, trials=trials
        )

    def register(self, registrations: Sequence[Registration]) -> None:
        with self._lock:
            now = self._clock()
            self._registered |= {registration.name: (now, registration) for registration in registrations}

    # -- history ---------------------------------------------------------------------------------------------------

    def past(self, count: int) -> Sequence[Event]:
        with self._lock:
            return list(itertools.islice(self._past, count))

    def stored(self, cursor: str) -> None:
        with self._lock:
            while self._past and int(self._past[0].cursor) <= int(cursor):
                self._past.popleft()

    def due_minutes(self) -> Mapping[int, str]:
        with self._lock:
            marks = {number: f"{self._epoch}:{pushes}" for number, (pushes, _) in self._minutes.items()}
            return {number: mark for number, mark in marks.items() if self._stored.get(number) != mark}

    def minute(self, number: int) -> tuple[str, Tally]:
        with self._lock:
            return self._epoch, dict(self._minutes.get(number, (0, {}))[1])

    def minutes(self, numbers: Sequence[int]) -> Mapping[int, Tally]:
        found = {number: self.minute(number)[1] for number in numbers}
        return {
            number: {key: count for key, count in counted.items() if not key.startswith(SLOT)}
            for number, counted in found.items()
        }

    def stored_minutes(self, marks: Mapping[int, str]) -> None:
        with self._lock:
            self._stored |= marks

    def totals(self, names: Sequence[str]) -> Mapping[str, Tally]:
        with self._lock:
            now = self._clock()
            return {name: self._running(name, now) for name in names if name in self._founded}

    def _running(self, name: str, now: int) -> Tally:
        running = dict(self._totals.get(name, {}))
        if (since := self._open_since.get(name)) is not None:
            merge(running, {OPEN_MS: max(0, now - since)})
        return running

    def found(self, known: Mapping[str, Tally]) -> None:
        with self._lock:
            now = self._clock()
            for name, before in known.items():
                held, running = self._totals[name], self._running(name, now)
                for field, count in before.items():
                    more = count if name not in self._founded else max(0, count - running.get(field, 0))
                    merge(held, {field: more})
                self._founded.add(name)

    def heartbeats(self) -> Sequence[Worker]:
        with self._lock:
            now = self._clock()
            self._workers = {name: one for name, one in self._workers.items() if now - one[0] < UNHEARD_MS}
            return [
                Worker(process=process, host=host, age_ms=now - at, behind=max(0, self._seq - followed))
                for process, (at, followed, host) in self._workers.items()
            ]

    # -- leases ----------------------------------------------------------------------------------------------------

    def lease(self, request: LeaseRequest) -> Leased:
        with self._lock:
            now, current = self._clock(), self._circuits.get(request.name)
            held = self._leases[request.name] = self._held(request.name, now)
            mine = current is not None and current.id == request.generation and now <= request.deadline
            granted = mine and (request.token in held or len(held) < request.slots)
            if granted and request.token not in held:
                longest = now + request.longest_ms
                held[request.token] = _Lease(min(now + LEASE_MS, longest), longest)
            return Leased(granted=granted, now=now)

    def _held(self, name: str, now: int) -> dict[str, _Lease]:
        leases = self._leases.get(name, {})
        return {token: one for token, one in leases.items() if 0 < one.until - now <= LEASE_MS}

    def _renew(self, name: str, token: str, now: int) -> None:
        lease = self._leases[name].get(token)
        if lease is not None and lease.until > now:
            lease.until = min(now + LEASE_MS, lease.longest)

    def release(self, name: str, token: str) -> None:
        with self._lock:
            self._leases[name].pop(token, None)

    # -- news ------------------------------------------------------------------------------------------------------

    def _tell(self, news: tuple[str, Snapshot] | Call) -> None:
        self._news.append(news)
        if len(self._news) > 2 * REMEMBERED:
            del self._news[:REMEMBERED]
            self._forgotten += REMEMBERED
        self._told.notify_all()

    def cursor(self) -> str:
        with self._lock:
            return str(self._forgotten + len(self._news))

    def listen(self, cursor: str, *, seconds: float) -> Heard:
        with self._lock:
            start = max(0, int(cursor) - self._forgotten)
            if seconds and len(self._news) <= start:
                self._told.wait(seconds)
            news = self._news[start:]
            return Heard(
                cursor=str(self._forgotten + start + len(news)),
                changed=[item for item in news if not isinstance(item, Call)],
                calls=[item for item in news if isinstance(item, Call)],
            )

    def hang_up(self) -> None:
        pass

    def poll(
        self, call: Call, *, expected: frozenset[str], seconds: float, wants: Mapping[str, Window], now: int
    ) -> Mapping[str, Sequence[Tally]]:
        with self._lock:
            awaited = self._awaited[call.id] = set(expected)
            try:
                self._tell(call)
                self._told.wait_for(lambda: not awaited, timeout=seconds)
                return {name: self._window(name, window, self._clock()) for name, window in wants.items()}
            finally:
                del self._awaited[call.id]

    def claim(self, key: str, *, milliseconds: int) -> bool:
        with self._lock:
            now = self._clock()
            if self._claims.get(key, 0) > now:
                return False
            self._claims[key] = now + milliseconds
            return True


def shifted(snapshot: Snapshot, milliseconds: int) -> Snapshot:
    """The same circuit on a clock that is `milliseconds` ahead."""

    def move(moment: int | None) -> int | None:
        return moment + milliseconds if moment else moment

    return dataclasses.replace(
        snapshot,
        since=snapshot.since + milliseconds,
        until=move(snapshot.until) or 0,
        force_until=move(snapshot.force_until),
        switch_until=move(snapshot.switch_until),
    )
