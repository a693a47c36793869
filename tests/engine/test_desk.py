"""Operators' acts and readers' looks, where something stands in their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from breaker.engine import desk
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.machine import Act, Action, Force, State
from breaker.engine.policy import Policy
from breaker.engine.stores.base import StoreError, Write, Written
from breaker.engine.sync import Sync
from breaker.engine.window import total
from breaker.testing import Clock, Cluster, fail, rejected, succeed

OPEN = Act(id="an-act", action=Action.OPEN)


def test_a_circuit_that_nobody_has_seen_can_be_acted_upon() -> None:
    cluster = Cluster()
    before, after = desk.act(cluster.workers[0], "x", OPEN, {})
    assert (before.state, before.force) == (State.CLOSED, None)
    assert (after.force, after.rev, after.act_at) == (Force.OPEN, "an-act", cluster.workers[0].now())
    (breaker,) = cluster.breakers()
    assert rejected(breaker)


def test_a_process_that_shares_with_nobody_acts_on_itself() -> None:
    clock = Clock()
    alone = Sync(None, monotonic=clock, threads=False)
    breaker = SharedCircuitBreaker("x", sync=alone)
    desk.act(alone, "x", OPEN, {})
    assert breaker.current_state == "open"


def test_an_act_is_followed_at_once_where_it_was_made() -> None:
    (breaker,) = Cluster().breakers()
    _, after = desk.act(breaker.sync, "x", OPEN, {})
    assert breaker.snapshot == after


def test_the_event_of_an_act_is_written_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = _watched(cluster := Cluster(), monkeypatch)
    desk.act(cluster.workers[0], "x", OPEN, {"kind": "operation"})
    (write,) = writes
    assert (write.event["kind"], write.expected) == ("operation", None)
    assert write.deadline == cluster.workers[0].now() + 100


def test_the_event_of_an_act_says_from_what_to_what(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = _watched(cluster := Cluster(), monkeypatch)
    cluster.breakers()
    for act in (OPEN, Act(id="b", action=Action.RELEASE), Act(id="c", action=Action.DISABLE)):
        cluster.clock.advance(3)
        desk.act(cluster.workers[0], "x", act, {"kind": "operation"})
    told = [write.event for write in writes if write.event]
    moves = [(event["from"], event["to"]) for event in told]
    assert moves == [("CLOSED", "OPEN"), ("OPEN", "CLOSED"), ("CLOSED", "CLOSED")]
    assert [event["lasted"] for event in told] == [3_000, 3_000, 3_000]


def test_the_event_of_an_act_says_how_the_circuit_stands_under_the_policy_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (breaker,) = (cluster := Cluster()).breakers(enabled=False)
    cluster.store._registered.clear()  # type: ignore[attr-defined]
    writes = _watched(cluster, monkeypatch)
    desk.act(breaker.sync, "x", OPEN, {})
    assert writes[0].event["to"] == "CLOSED"


def test_the_event_of_an_act_on_others_breaker_goes_by_the_policy_that_they_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (cluster := Cluster()).breakers(enabled=False)
    writes = _watched(cluster, monkeypatch)
    desk.act(Sync(cluster.store, monotonic=cluster.clock, threads=False), "x", OPEN, {})
    assert writes[0].event["to"] == "CLOSED"


def before_the_write(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Once, between the look at the circuit and the write."""
    write = cluster.store.write

    def overtaken(asked: Write) -> Written:
        monkeypatch.setattr(cluster.store, "write", write)
        happens()
        return write(asked)

    monkeypatch.setattr(cluster.store, "write", overtaken)


def test_an_act_that_another_write_overtook_is_made_over_that(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers()
    before_the_write(cluster, monkeypatch, lambda: fail(second, 5))
    before, after = desk.act(first.sync, "x", OPEN, {})
    assert (before.state, after.state, after.force) == (State.OPEN, State.OPEN, Force.OPEN)


def test_an_act_over_what_was_seen_is_not_made_over_a_write_that_overtook_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers()
    before_the_write(cluster, monkeypatch, lambda: fail(second, 5))
    with pytest.raises(desk.Overtaken, match=r"^others have changed it since it was seen$"):
        desk.act(first.sync, "x", OPEN, {}, over=desk.seen(first.snapshot))
    stands = cluster.store.load(["x"]).records["x"].snapshot
    assert stands is not None
    assert (stands.state, stands.force) == (State.OPEN, None)


def test_a_newborn_that_others_enter_meanwhile_is_still_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    first, second = cluster.workers

    def enters() -> None:
        SharedCircuitBreaker("x", sync=second)
        second.beat()

    before_the_write(cluster, monkeypatch, enters)
    before, after = desk.act(first, "x", OPEN, {}, over="new")
    assert (before.pristine, before.seq > 0, after.force) == (True, True, Force.OPEN)


def test_an_act_over_what_was_seen_is_made_where_that_stands() -> None:
    (breaker,) = Cluster().breakers()
    fail(breaker, 5)
    _, after = desk.act(breaker.sync, "x", OPEN, {}, over=desk.seen(breaker.snapshot))
    assert after.force is Force.OPEN


def test_an_act_over_an_older_write_is_refused_and_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (breaker,) = (cluster := Cluster()).breakers()
    seen = desk.seen(breaker.snapshot)
    fail(breaker, 5)
    writes = _watched(cluster, monkeypatch)
    with pytest.raises(desk.Overtaken):
        desk.act(breaker.sync, "x", OPEN, {}, over=seen)
    assert writes == []


def test_an_act_that_is_overtaken_again_and_again_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, tried = Cluster(), []

    def refuse(write: Write) -> Written:
        tried.append(write)
        cluster.clock.advance(0.3)
        return Written(won=False, now=0, current=None)

    monkeypatch.setattr(cluster.store, "write", refuse)
    with pytest.raises(StoreError) as raised:
        desk.act(cluster.workers[0], "x", OPEN, {})
    assert str(raised.value) == "others changed the circuit again and again; try once more"
    assert len(tried) == 4  # within a second


def test_an_act_whose_answer_was_lost_is_not_made_again_over_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    one, another = cluster.workers
    write = cluster.store.write

    def lost(asked: Write) -> Written:
        monkeypatch.setattr(cluster.store, "write", write)
        write(asked)
        desk.act(another, "x", OPEN, {})
        raise StoreError("the answer was lost")

    monkeypatch.setattr(cluster.store, "write", lost)
    with pytest.raises(StoreError, match=r"^the answer was lost and others have changed.*: perhaps it was done$"):
        desk.act(one, "x", Act(id="reset", action=Action.RESET), {})
    stands = cluster.store.load(["x"]).records["x"].snapshot
    assert stands is not None
    assert stands.force is Force.OPEN


def test_an_act_that_is_applied_again_lifts_what_stands_if_it_is_newer() -> None:
    cluster = Cluster()
    worker = cluster.workers[0]
    _, opened = desk.act(worker, "x", OPEN, {})
    again = Act(id="again", action=Action.RELEASE, act_at=opened.act_at + 1)
    _, released = desk.act(worker, "x", again, {})
    assert (released.force, released.act_at) == (None, opened.act_at + 1)


def test_an_act_that_is_applied_again_yields_to_one_of_the_same_moment() -> None:
    worker = Cluster().workers[0]
    _, opened = desk.act(worker, "x", OPEN, {})
    found = desk.act(worker, "x", Act(id="again", action=Action.RELEASE, act_at=opened.act_at), {})
    assert found == (opened, opened)


@pytest.mark.parametrize("stands", [Action.OPEN, Action.DISABLE])
def test_a_reset_that_is_applied_again_lifts_what_it_was_made_for(stands: Action) -> None:
    worker = Cluster().workers[0]
    _, made = desk.act(worker, "x", Act(id="made", action=stands), {})
    _, reset = desk.act(worker, "x", Act(id="again", action=Action.RESET, act_at=made.act_at + 1), {})
    assert (reset.force, reset.switch) == (None, None)


def test_a_reader_may_name_what_it_reads() -> None:
    cluster = Cluster()
    for name in ("x", "y"):
        succeed(cluster.breakers(name)[0], 3)
    records, shared = desk.read(cluster.workers[0], ["y", "z"])
    assert shared
    assert sorted(records.records) == ["y", "z"]
    assert total(records.records["y"].tallies).successes == 3
    assert records.records["z"].snapshot is None


def test_a_reader_sees_the_breakers_of_others() -> None:
    cluster = Cluster(2)
    theirs = SharedCircuitBreaker("theirs", sync=cluster.workers[0])
    own = SharedCircuitBreaker("own", sync=cluster.workers[1])
    succeed(theirs, 2)
    cluster.beat()
    succeed(own, 3)
    records, _ = desk.read(own.sync)
    assert {name: total(one.tallies).successes for name, one in records.records.items()} == {"theirs": 2, "own": 3}


def test_a_reader_sees_an_own_breaker_that_the_store_has_not_listed() -> None:
    cluster = Cluster()
    (breaker,) = cluster.breakers()
    cluster.store._registered.clear()  # type: ignore[attr-defined]
    succeed(breaker)
    records, shared = desk.read(breaker.sync)
    assert shared
    assert total(records.records["x"].tallies).successes == 1


def test_a_command_reads_the_store_without_joining() -> None:
    cluster = Cluster()
    succeed(cluster.breakers()[0], 2)
    cluster.beat()
    command = Sync(cluster.store, monotonic=cluster.clock, threads=False)
    records, shared = desk.read(command)
    assert (shared, command.sharing) == (True, False)
    assert total(records.records["x"].tallies).successes == 2


def test_a_reader_sees_its_own_process_when_the_store_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    (breaker,) = cluster.breakers(volume_threshold=9)
    fail(breaker, 2)
    cluster.beat()

    def gone(*args: Any, **more: Any) -> Any:
        raise StoreError("gone")

    monkeypatch.setattr(cluster.store, "load", gone)
    succeed(breaker)
    records, shared = desk.read(breaker.sync)
    assert not shared
    assert total(records.records["x"].tallies).completed == 3
    assert breaker.sync.lost_reason == "gone"
    assert not breaker.sync.sharing
    named, _ = desk.read(breaker.sync, ["x"])
    assert [*named.records] == ["x"]


def _watched(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """The writes that reach the store from now on."""
    writes: list[Write] = []
    write = cluster.store.write

    def watched(asked: Write) -> Written:
        writes.append(asked)
        return write(asked)

    monkeypatch.setattr(cluster.store, "write", watched)
    return writes


def test_policies_of_a_reader_say_how_long_its_windows_are() -> None:
    cluster = Cluster()
    breaker = SharedCircuitBreaker("x", Policy(rolling_count_timeout=600), sync=cluster.workers[0])
    cluster.beat()
    succeed(breaker)
    cluster.advance(300)
    records, _ = desk.read(breaker.sync)
    assert total(records.records["x"].tallies).successes == 1


def test_a_circuit_that_nobody_has_seen_is_born_at_the_stores_moment() -> None:
    cluster = Cluster()
    before, _ = desk.act(cluster.workers[0], "x", OPEN, {})
    assert before.since == cluster.workers[0].now()


class Insisting:
    """A process with threads whose store loses the answers of so many writes; waiting moves its clock."""

    def __init__(self, lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster, self.waited, self.left = Cluster(), [], lost
        self.sync = Sync(self.cluster.store, monotonic=self.cluster.clock)
        write = self.cluster.store.write

        def losing(asked: Write) -> Written:
            if not self.left:
                return write(asked)
            self.left -= 1
            raise StoreError("no answer")

        def wait(seconds: float) -> None:
            self.waited.append(seconds)
            self.cluster.clock.advance(seconds)

        monkeypatch.setattr(self.cluster.store, "write", losing)
        monkeypatch.setattr(desk.time, "sleep", wait)


def test_an_act_whose_answers_are_lost_is_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    insisting = Insisting(5, monkeypatch)
    insisting.cluster.store._clock = lambda: 0  # type: ignore[attr-defined]  # which the deadline of a write goes by
    _, after = desk.act(insisting.sync, "x", OPEN, {})
    assert after.force is Force.OPEN
    assert insisting.waited == [desk.AGAIN] * 5


def test_an_act_that_finds_no_store_says_so_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    insisting = Insisting(99, monkeypatch)
    with pytest.raises(StoreError, match="no answer"):
        desk.act(insisting.sync, "x", OPEN, {})
    assert 0.7 < sum(insisting.waited) < 1


def test_a_process_that_shares_with_nobody_reads_itself() -> None:
    alone = Sync(None, monotonic=Clock(), threads=False)
    breaker = SharedCircuitBreaker("x", sync=alone)
    SharedCircuitBreaker("y", sync=alone)
    succeed(breaker, 2)
    records, shared = desk.read(alone)
    assert (shared, sorted(records.records)) == (False, ["x", "y"])
    assert total(records.records["x"].tallies).successes == 2
    assert [*desk.read(alone, ["x"])[0].records] == ["x"]


def test_a_reader_does_not_ask_a_store_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    (breaker,) = (cluster := Cluster()).breakers()
    breaker.sync.lose("gone")
    monkeypatch.setattr(Sync, "started", True)
    monkeypatch.setattr(cluster.store, "load", lambda *args, **more: pytest.fail("asked"))
    assert desk.read(breaker.sync)[1] is False


def test_a_reader_asks_once_when_the_store_has_listed_all(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, asked = Cluster(), []
    (breaker,) = cluster.breakers()
    load = cluster.store.load
    monkeypatch.setattr(cluster.store, "load", lambda *args, **more: (asked.append(args), load(*args, **more))[1])
    desk.read(breaker.sync)
    assert len(asked) == 1


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(("asked", "wants"), [({}, True), ({"histograms": True}, True), ({"histograms": False}, False)])
def test_a_reader_says_whether_it_wants_histograms(
    listed: bool, asked: dict[str, bool], wants: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (breaker,) = (cluster := Cluster()).breakers()
    if not listed:
        cluster.store._registered.clear()  # type: ignore[attr-defined]
    load, said = cluster.store.load, []
    monkeypatch.setattr(cluster.store, "load", lambda *args, **more: (said.append(more), load(*args, **more))[1])
    desk.read(breaker.sync, **asked)
    assert [more["histograms"] for more in said] == [wants] * (1 if listed else 2)
