"""The same commands in the same order: memory, Redis and Valkey must give the same answers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, ClassVar

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from breaker.engine.machine import State, newborn
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Bucket, LeaseRequest, Push, Registration, Window, Write
from tests.engine.model.schedules import Clock, profile
from tests.engine.model.shared import SharedMemory, SharedRedis

NAMES = st.sampled_from(["x", "y"])
TOKENS = st.sampled_from("abc")
AROUND = st.sampled_from([100, 0, -1])
"""A deadline ahead, now, and just missed, ms."""
WINDOW = Window(1_000, 4)
FIELDS = st.dictionaries(st.sampled_from(["g|s", "g|f", "g|u", "h|7", "g|w|host|p"]), st.integers(1, 2**40), max_size=3)


class Stores(RuleBasedStateMachine):
    clients: ClassVar[list[redis.Redis]]

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.stores: list[Any] = [SharedMemory(self.clock.ms), *(SharedRedis(c, self.clock.ms) for c in self.clients)]
        self.cursors = [store.cursor() for store in self.stores]
        self.revs: dict[str, list[str]] = {"x": [], "y": []}
        self.writes: list[Write] = []
        self.copies: list[Any] = []

    def _ask(self, command: str, *arguments: Any, **named: Any) -> Any:
        """One command to all stores; the answer of the first, which must be all the others'."""
        answers = [_plain(getattr(store, command)(*arguments, **named)) for store in self.stores]
        assert all(answer == answers[0] for answer in answers), answers
        return answers[0]

    @rule(ms=st.sampled_from([1, 250, 499, 1_500, 2_000, 5_000, -2_000]))
    def time_passes(self, ms: int) -> None:
        """Also backward: a server's clock may be set."""
        self.clock.seconds = max(0, self.clock.seconds + ms / 1000)

    @rule(name=NAMES, which=st.integers(0, 2), deadline=AROUND, early=AROUND, token=st.none() | TOKENS)
    def write(self, name: str, which: int, deadline: int, early: int, token: str | None) -> None:
        """Over the rev that stands, an older one, or none."""
        now, revs = self.clock.ms(), [*reversed(self.revs[name]), None]
        after = dataclasses.replace(newborn(now), state=State.HALF_OPEN, why={"errorRate": 60.5})
        self.revs[name].append(after.rev)
        self.writes.append(
            Write(
                name=name,
                expected=revs[min(which, len(revs) - 1)],
                after=after,
                event={"kind": "transition"},
                deadline=now + deadline,
                not_before=now - early,
                token=token,
            )
        )
        self._ask("write", self.writes[-1])

    @rule(which=st.integers(0, 5))
    def write_again(self, which: int) -> None:
        if self.writes:
            self._ask("write", self.writes[-1 - which % len(self.writes)])

    @rule(
        process=st.sampled_from("pq"),
        sequence=st.integers(1, 9),
        counts=st.dictionaries(st.tuples(NAMES, st.integers(-5, 0)), FIELDS, max_size=3),
        renewals=st.lists(st.tuples(NAMES, TOKENS), max_size=2),
        reads=st.booleans(),
    )
    def push(self, process: str, sequence: int, counts: Any, renewals: Any, reads: bool) -> None:
        """Sequences come in any order, as late and repeated ones do."""
        now = self.clock.ms()
        buckets = {Bucket(name, 1_000, now // 1_000 + ago): fields for (name, ago), fields in counts.items()}
        wants = {"x": WINDOW, "y": WINDOW} if reads else {}
        push = Push(process=process, sequence=sequence, counts=buckets, keep_ms=90_000, now=now, wants=wants)
        self._ask("push", dataclasses.replace(push, renewals=renewals))

    @rule(name=NAMES, which=st.integers(0, 1), token=TOKENS, slots=st.integers(1, 2), deadline=AROUND)
    def lease(self, name: str, which: int, token: str, slots: int, deadline: int) -> None:
        generation = [*reversed(self.revs[name]), "none", "none"][which]
        asked = LeaseRequest(
            name=name,
            generation=generation,
            token=token,
            slots=slots,
            longest_ms=3_000,
            deadline=self.clock.ms() + deadline,
        )
        self._ask("lease", asked)

    @rule(name=NAMES, token=TOKENS)
    def release(self, name: str, token: str) -> None:
        self._ask("release", name, token)

    @rule(name=NAMES, timeout=st.integers(1, 3))
    def register(self, name: str, timeout: int) -> None:
        policy = Policy(timeout=timeout, rolling_count_timeout=4, rolling_count_buckets=4)
        self._ask("register", [Registration(name=name, labels={"service": "S"}, policy=policy)])

    @rule(named=st.booleans(), counted=st.booleans())
    def load(self, named: bool, counted: bool) -> None:
        self._ask("load", ["x", "y"] if named else None, windows={"x": WINDOW} if counted else None)

    @rule()
    def listen(self) -> None:
        heard = [store.listen(cursor, seconds=0) for store, cursor in zip(self.stores, self.cursors, strict=True)]
        self.cursors = [one.cursor for one in heard]
        news = [(one.changed, one.calls) for one in heard]
        assert all(one == news[0] for one in news), news

    @rule()
    def emptied(self) -> None:
        for store in self.stores:
            store.empty()

    @rule(back=st.booleans())
    def copied_or_back(self, back: bool) -> None:
        if not back:
            self.copies = [store.copied() for store in self.stores]
        for store, copied in zip(self.stores, self.copies, strict=True) if back and self.copies else ():
            store.restore(copied)


def _plain(answer: Any) -> Any:
    """An answer without what is random or may be split in several ways."""
    if not dataclasses.is_dataclass(answer):
        return answer
    fields = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
    fields.pop("epoch", None)
    if "windows" in fields:
        if not fields["windows"]:
            del fields["live"]  # listed only where something is read
        fields["windows"] = {name: _added(tallies) for name, tallies in fields["windows"].items()}
    if "records" in fields:
        fields["records"] = {name: _plain(record) for name, record in fields["records"].items()}
    if "tallies" in fields:
        fields["tallies"] = _added(fields["tallies"])
    return fields


def _added(tallies: Any) -> Counter[str]:
    added: Counter[str] = Counter()
    for tally in tallies:
        added.update(tally)
    return Counter({field: count for field, count in added.items() if not field.startswith("h|")})


def test_all_stores_answer_alike(redis_server: Any, valkey_server: Any) -> None:
    with redis_server.client() as first, valkey_server.client() as second:
        Stores.clients = [first, second]
        run_state_machine_as_test(Stores, settings=profile(schedules=25, derandomize=True))
