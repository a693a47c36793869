"""What every store does, run over memory, a real Redis and a real Valkey."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from breaker.engine.machine import Force, Snapshot, State, newborn
from breaker.engine.policy import Policy
from breaker.engine.stores import redis as redis_stores
from breaker.engine.stores.base import (
    Bucket,
    Call,
    LeaseRequest,
    Push,
    Registration,
    Store,
    StoreError,
    Window,
    Write,
)
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.stores.redis import SLOTS_AT_ONCE, RedisStore
from breaker.engine.window import by_name, total
from tests.programs import RedisServer, free_port, wait_for

FAR = 10**15


def client_of(server: RedisServer, **options: Any) -> redis.Redis:
    """Patient: the contract is about what is answered, on a busy machine too."""
    options = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)} | options
    return redis.Redis.from_url(server.url, **options)


@pytest.fixture(scope="module")
def cluster_of_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A Redis Cluster whose single node holds every slot."""
    server = RedisServer(tmp_path_factory.mktemp("cluster"), cluster_enabled="yes", cluster_port=str(free_port()))
    with server.client() as node:
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_for(lambda: "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO")), "the cluster is whole")
    client = RedisCluster(host="127.0.0.1", port=server.port, socket_timeout=1)
    yield client
    client.close()
    server.kill()


@pytest.fixture(params=["memory", "redis", "redis-resp3", "redis-cluster", "valkey"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(lambda: int(time.time() * 1000))
        return
    if request.param == "redis-cluster":
        cluster = request.getfixturevalue("cluster_of_one")
        cluster.flushall()
        yield RedisStore(lambda: cluster, namespace="tests")
        return
    server = request.getfixturevalue("valkey_server" if request.param == "valkey" else "redis_server")
    protocol = 3 if request.param == "redis-resp3" else 2
    client = client_of(server, protocol=protocol)
    yield RedisStore(lambda: client, namespace="tests")
    client.close()


def write(store: Store, after: Snapshot, expected: str | None, **more: Any) -> Any:
    return store.write(Write(**{"name": "x", "expected": expected, "after": after, "deadline": FAR} | more))


def push(store: Store, sequence: int, **more: Any) -> Any:
    now = int(time.time() * 1000)
    return store.push(Push(**{"process": "p", "sequence": sequence, "keep_ms": 60_000, "now": now} | more))


def counts(number: int | None = None, **fields: int) -> dict[Bucket, dict[str, int]]:
    now = int(time.time() * 1000) // 60_000 if number is None else number
    return {Bucket("x", 60_000, now): {key.replace("_", "|"): count for key, count in fields.items()}}


WANTS = {"x": Window(60_000, 2)}


def some(state: int = 1) -> Snapshot:
    return newborn(state)


# -- writes ------------------------------------------------------------------------------------------------------------


def test_a_write_needs_the_rev_that_stands(store: Store) -> None:
    first, second, third = some(), some(), some()
    assert write(store, first, None).won
    assert not write(store, second, None).won
    assert not write(store, second, "another").won
    assert write(store, third, first.rev).won
    assert store.load(["x"]).records["x"].snapshot.id == third.id


def test_a_repeated_write_wins_again_without_a_change(store: Store) -> None:
    after = some()
    first, again = write(store, after, None), write(store, after, None)
    assert (again.won, again.current.seq) == (True, first.current.seq)


def test_a_refused_write_answers_what_stands(store: Store) -> None:
    stands = some()
    write(store, stands, None)
    assert write(store, some(), None).current.id == stands.id


def test_a_late_write_is_refused(store: Store) -> None:
    assert not write(store, some(), None, deadline=1_000).won
    assert store.load(["x"]).records["x"].snapshot is None


def test_an_early_write_is_refused(store: Store) -> None:
    assert not write(store, some(), None, not_before=FAR).won


def test_a_snapshot_comes_back_as_it_was(store: Store) -> None:
    after = dataclasses.replace(some(), until=5, force_until=7, switch=False, act_at=3, why={"errorRate": 60.0})
    write(store, after, None)
    back = store.load(["x"]).records["x"].snapshot
    assert dataclasses.replace(back, seq=0) == after


def test_writes_are_numbered(store: Store) -> None:
    assert [write(store, some(), None, name=name).current.seq for name in "abc"] == [1, 2, 3]
    assert store.load([]).seq == 3


# -- counts ------------------------------------------------------------------------------------------------------------


def test_counts_add_up(store: Store) -> None:
    push(store, 1, counts=counts(g_s=2, g_f=1))
    pushed = push(store, 2, counts=counts(g_s=3), wants=WANTS)
    totals = total(pushed.windows["x"])
    assert (totals.successes, totals.failures) == (5, 1)


def test_a_repeated_push_adds_nothing(store: Store) -> None:
    push(store, 1, counts=counts(g_s=2))
    push(store, 1, counts=counts(g_s=2))
    assert total(push(store, 2, wants=WANTS).windows["x"]).successes == 2


def test_processes_have_sequences_of_their_own(store: Store) -> None:
    push(store, 5, counts=counts(g_s=1))
    push(store, 1, process="q", counts=counts(g_s=1))
    assert total(push(store, 6, wants=WANTS).windows["x"]).successes == 2


def test_a_window_leaves_older_buckets_out(store: Store) -> None:
    push(store, 1, counts=counts(1, g_s=1))
    assert not total(push(store, 2, wants=WANTS).windows["x"]).successes


def test_the_histogram_comes_with_a_load(store: Store) -> None:
    push(store, 1, counts=counts(g_s=1, h_7=3))
    tallies = store.load(["x"], windows=WANTS).records["x"].tallies
    assert total(tallies).histogram == {7: 3}


def test_who_does_without_histograms_gets_the_counts_alone(store: Store) -> None:
    push(store, 1, counts=counts(g_s=2, h_7=2), totals={})
    (tally,) = store.load(["x"], windows=WANTS, histograms=False).records["x"].tallies
    assert total([tally]).successes == 2


def test_a_push_names_the_live_processes(store: Store) -> None:
    push(store, 1, process="q")
    assert push(store, 1, wants=WANTS).live == {"p", "q"}


# -- registrations -----------------------------------------------------------------------------------------------------


def test_registered_breakers_are_found_with_labels_and_policy(store: Store) -> None:
    one = Registration(name="x", labels={"service": "S"}, policy=Policy(timeout=5))
    store.register([one])
    assert store.load().records["x"].registration == one


def test_a_registered_window_is_read_by_its_own_policy(store: Store) -> None:
    store.register([Registration(name="x", labels={}, policy=Policy(rolling_count_timeout=600))])
    push(store, 1, counts=counts(g_s=4))
    assert total(store.load(windows={}).records["x"].tallies).successes == 4


# -- leases ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def half_open(store: Store) -> Snapshot:
    snapshot = some()
    write(store, snapshot, None)
    return snapshot


def lease(store: Store, snapshot: Snapshot, token: str, **more: Any) -> bool:
    asked = {"name": "x", "generation": snapshot.id, "token": token, "slots": 1, "longest_ms": 31_000, "deadline": FAR}
    return store.lease(LeaseRequest(**asked | more)).granted


def test_one_lease_at_a_time(store: Store, half_open: Snapshot) -> None:
    assert lease(store, half_open, "a")
    assert not lease(store, half_open, "b")


def test_asking_again_for_ones_own_lease_is_granted(store: Store, half_open: Snapshot) -> None:
    assert lease(store, half_open, "a")
    assert lease(store, half_open, "a")


def test_as_many_leases_as_slots(store: Store, half_open: Snapshot) -> None:
    assert [lease(store, half_open, token, slots=2) for token in "abc"] == [True, True, False]


def test_a_released_lease_is_free(store: Store, half_open: Snapshot) -> None:
    lease(store, half_open, "a")
    store.release("x", "a")
    assert lease(store, half_open, "b")


def test_a_lease_of_another_generation_is_refused(store: Store, half_open: Snapshot) -> None:
    assert not lease(store, some(), "a")


def test_a_late_lease_is_refused(store: Store, half_open: Snapshot) -> None:
    assert not lease(store, half_open, "a", deadline=1_000)


def test_only_the_holder_writes_with_its_token(store: Store, half_open: Snapshot) -> None:
    lease(store, half_open, "a")
    assert not write(store, some(), half_open.rev, token="b").won
    assert write(store, some(), half_open.rev, token="a").won


def test_a_write_drops_the_leases(store: Store, half_open: Snapshot) -> None:
    lease(store, half_open, "a")
    after = some()
    write(store, after, half_open.rev)
    assert not write(store, some(), after.rev, token="a").won
    assert lease(store, after, "b")


def test_a_lease_never_lasts_beyond_its_longest(store: Store, half_open: Snapshot) -> None:
    lease(store, half_open, "a", longest_ms=1)
    time.sleep(0.01)  # the store's own clock
    push(store, 1, renewals=[("x", "a")])
    assert lease(store, half_open, "b")


# -- news --------------------------------------------------------------------------------------------------------------


def test_writes_are_heard_in_order_after_the_cursor(store: Store) -> None:
    write(store, some(), None, name="before")
    cursor = store.cursor()
    a, b = some(), some()
    write(store, a, None)
    write(store, b, a.rev)
    heard = store.listen(cursor, seconds=0.5)
    assert [(name, snapshot.id) for name, snapshot in heard.changed] == [("x", a.id), ("x", b.id)]
    assert not store.listen(heard.cursor, seconds=0).changed


def test_news_wakes_who_listens(store: Store) -> None:
    cursor, after = store.cursor(), some()
    timer = threading.Timer(0.05, write, (store, after, None))
    timer.start()
    began = time.monotonic()
    heard = store.listen(cursor, seconds=5)
    assert heard.changed[0][1].id == after.id
    assert time.monotonic() - began < 2
    timer.join()


def poll(store: Store, *expected: str, seconds: float, call: str = "c") -> int:
    """The successes that a poll reads at its end."""
    now = int(time.time() * 1000)
    windows = store.poll(
        Call(call, "r", ["x", "y"]), expected=frozenset(expected), seconds=seconds, wants=WANTS, now=now
    )
    return total(windows["x"]).successes


def test_a_poll_reads_after_the_last_answer(store: Store) -> None:
    cursor = store.cursor()
    heard: list[Call] = []

    def answer() -> None:
        heard.extend(store.listen(cursor, seconds=2).calls)
        for process in ("p", "q"):
            push(store, 1, process=process, answers=["c"], counts=counts(g_s=1))

    answering = threading.Thread(target=answer)
    answering.start()
    assert poll(store, "p", "q", seconds=5) == 2
    answering.join()
    assert heard == [Call("c", "r", ["x", "y"])]


def test_a_process_that_answers_twice_answers_for_itself_alone(store: Store) -> None:
    def answer() -> None:
        for sequence in (1, 1):
            push(store, sequence, answers=["c"])
        time.sleep(0.1)
        push(store, 1, process="q", answers=["c"], counts=counts(g_s=1))

    answering = threading.Timer(0.05, answer)
    answering.start()
    assert poll(store, "p", "q", seconds=5) == 1
    answering.join()


def test_one_push_answers_several_calls(store: Store) -> None:
    waits = [seconds_from_push_to_end(store, number, calls) for number, calls in enumerate(("ab", "cd", "ef"), 1)]
    assert min(waits) < 0.8  # Redis would end the wait for what is not answered after a second


def seconds_from_push_to_end(store: Store, number: int, calls: str) -> float:
    """Of the calls named, which one push, the numberth of its process, answers."""
    cursor, read = store.cursor(), []

    def ask(call: str) -> None:
        read.append(poll(store, "p", seconds=30, call=call))

    asking = [threading.Thread(target=ask, args=[call]) for call in calls]
    for one in asking:
        one.start()
    called: list[Call] = []
    ends = time.monotonic() + 5
    while len(called) < len(calls) and time.monotonic() < ends:
        heard = store.listen(cursor, seconds=0.1)
        cursor, called = heard.cursor, [*called, *heard.calls]
    push(store, number, counts=counts(g_s=1), answers=[call.id for call in called])
    answered = time.monotonic()
    for one in asking:
        one.join(10)
    assert read == [number] * len(calls)
    return time.monotonic() - answered


def test_who_does_not_answer_is_not_waited_for_long(store: Store) -> None:
    push(store, 1, counts=counts(g_s=1))
    waits = []
    for _ in range(5):
        began = time.monotonic()
        assert poll(store, "dead", seconds=0.02) == 1
        waits.append(time.monotonic() - began)
    assert min(waits) < 0.1  # a busy machine delays one of them, or two


def test_a_claim_is_won_once(store: Store) -> None:
    assert [store.claim("tick", milliseconds=60_000) for _ in range(2)] == [True, False]


# -- running totals ----------------------------------------------------------------------------------------------------


def turned(before: Snapshot | None, state: State, **event: str) -> tuple[Snapshot, dict[str, Any]]:
    """A circuit in that state, and the event that brought it there."""
    was = before.state.value if before else State.CLOSED.value
    after = dataclasses.replace(some(), state=state)
    return after, {"event": {"from": was, "to": state.value, **event}}


def running(store: Store, name: str = "x") -> dict[str, int]:
    return dict(store.totals([name])[name])


def test_nothing_is_told_of_totals_before_they_are_founded(store: Store) -> None:
    push(store, 1, totals={"x": {"s": 1}})
    assert store.totals(["x"]) == {}


def test_totals_add_up_on_what_was_known(store: Store) -> None:
    push(store, 1, totals={"x": {"s": 2, "h|3": 2}, "@book": {"a": 1}})
    store.found({"x": {"s": 40, "f": 1}, "@book": {}})
    push(store, 2, totals={"x": {"s": 1}})
    assert store.totals(["x", "@book", "y"]) == {"x": {"s": 43, "f": 1, "h|3": 2}, "@book": {"a": 1}}


def test_a_repeated_push_adds_nothing_to_totals(store: Store) -> None:
    store.found({"x": {}})
    push(store, 1, totals={"x": {"s": 2}})
    push(store, 1, totals={"x": {"s": 2}})
    assert running(store) == {"s": 2}


def test_founded_totals_are_raised_to_what_is_known_and_never_lowered(store: Store) -> None:
    store.found({"x": {"s": 5, "f": 5}})
    store.found({"x": {"s": 9, "f": 1}})
    assert running(store) == {"s": 9, "f": 5}


def test_founded_totals_get_what_they_have_not_counted_yet(store: Store) -> None:
    store.found({"x": {}})
    store.found({"x": {"s": 5}})
    assert running(store) == {"s": 5}


def test_a_change_is_counted_once_however_often_it_is_written(store: Store) -> None:
    store.found({"x": {}})
    opened, event = turned(None, State.OPEN)
    write(store, opened, None, **event)
    write(store, opened, None, **event)
    assert running(store)["x|CLOSED|OPEN"] == 1


def test_a_write_that_is_refused_counts_nothing(store: Store) -> None:
    store.found({"x": {}})
    opened, event = turned(None, State.OPEN)
    write(store, opened, "another", **event)
    assert running(store) == {}


def test_an_act_that_changes_no_state_or_is_applied_again_is_no_change(store: Store) -> None:
    store.found({"x": {}})
    first, event = turned(None, State.CLOSED)
    write(store, first, None, **event)
    opened, again = turned(first, State.OPEN, again="yes")
    write(store, opened, first.rev, **again)
    assert running(store).keys() <= {"o"}


def test_the_time_spent_open_grows_and_stands_once_it_is_closed(store: Store) -> None:
    store.found({"x": {"o": 1_000}})
    opened, event = turned(None, State.OPEN)
    write(store, opened, None, **event)
    time.sleep(0.01)  # the store's own clock
    while_open = running(store)["o"]
    closed, event = turned(opened, State.CLOSED)
    write(store, closed, opened.rev, **event)
    after = running(store)["o"]
    time.sleep(0.01)
    assert 1_010 <= while_open <= after == running(store)["o"] < 6_000


@pytest.mark.parametrize(
    ("fields", "opens"),
    [
        ({"state": State.OPEN}, True),
        ({"state": State.OPEN, "switch": False}, False),
        ({"state": State.OPEN, "force": Force.CLOSED}, False),
        ({"force": Force.OPEN}, True),
        ({"force": Force.OPEN, "switch": False}, False),
        ({"state": State.HALF_OPEN}, False),
    ],
)
def test_a_circuit_that_is_put_back_open_counts_its_time(store: Store, fields: dict[str, Any], opens: bool) -> None:
    store.found({"x": {}})
    write(store, dataclasses.replace(some(), **fields), None)
    time.sleep(0.005)
    assert bool(running(store).get("o")) is opens


def test_the_time_that_runs_is_not_added_to_what_is_known_twice(store: Store) -> None:
    store.found({"x": {}})
    opened, event = turned(None, State.OPEN)
    write(store, opened, None, **event)
    time.sleep(0.02)
    store.found({"x": {"o": 15}})
    assert 20 <= running(store)["o"] < 35 + 1_000
    began = time.monotonic()
    store.found({"x": {"o": 60_000}})
    assert 60_000 <= running(store)["o"] <= 60_000 + (time.monotonic() - began) * 1000 + 2


def test_a_half_open_circuit_says_how_many_trials_run(store: Store) -> None:
    store.register([Registration(name="x", labels={}, policy=Policy())])
    half_open = dataclasses.replace(some(), state=State.HALF_OPEN)
    write(store, half_open, None)
    before = store.load(windows={}).records["x"].trials
    lease(store, half_open, "a")
    assert (before, store.load(windows={}).records["x"].trials) == (0, 1)


def test_who_reads_no_windows_is_told_of_no_trials(store: Store, half_open: Snapshot) -> None:
    lease(store, half_open, "a")
    assert store.load(["x"]).records["x"].trials == 0


# -- Redis alone -------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_store(redis_server: RedisServer) -> Iterator[tuple[RedisStore, redis.Redis]]:
    client = client_of(redis_server)
    yield RedisStore(lambda: client, namespace="tests"), client
    client.close()


def test_forgotten_scripts_are_loaded_again(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    assert write(store, some(), None).won
    client.script_flush()
    assert write(store, some(), None, name="y").won


def test_every_key_shares_one_hash_tag_and_the_namespace(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    store.register([Registration(name="x", labels={}, policy=Policy())])
    snapshot = some()
    write(store, snapshot, None)
    lease(store, snapshot, "a")
    push(store, 1, counts=counts(g_s=1, h_1=1), totals={"x": {"s": 1}}, answers=["c"])
    store.found({"y": {}})
    poll(store, "p", seconds=0)
    assert {key.split(b"}")[0] for key in client.scan_iter()} == {b"breaker:1:{tests"}


def test_namespaces_do_not_meet(redis_store: tuple[RedisStore, redis.Redis], redis_server: RedisServer) -> None:
    store, client = redis_store
    write(store, some(), None)
    other = RedisStore(lambda: client, namespace="staging")
    assert other.load(["x"]).records["x"].snapshot is None


def test_garbage_is_a_store_error(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    write(store, some(), None)
    client.hset("breaker:1:{tests}:circuit:x", "data", "not JSON")
    with pytest.raises(StoreError):
        store.load(["x"])
    client.set("breaker:1:{tests}:circuit:y", "not a hash")
    with pytest.raises(StoreError):
        write(store, some(), None, name="y")


def test_counts_expire(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    push(store, 1, counts=counts(g_s=1), keep_ms=5_000)
    (key,) = client.keys("*:counts:*")
    assert 0 < client.pttl(key) <= 5_000


def test_a_push_takes_as_many_commands_however_many_slots_its_latencies_fall_into(
    redis_store: tuple[RedisStore, redis.Redis],
) -> None:
    store, client = redis_store
    push(store, 1, counts=counts(g_s=1, h_1=1))  # the script is there

    def commands(sequence: int, slots: int) -> int:
        before = client.info("stats")["total_commands_processed"]
        push(store, sequence, counts=counts(g_s=slots, **{f"h_{slot}": 1 for slot in range(slots)}))
        return int(client.info("stats")["total_commands_processed"]) - before

    assert commands(2, 1_200) == commands(3, 1)


# -- history -----------------------------------------------------------------------------------------------------------


NOW = int(time.time()) // 60


def revised(rev: str) -> Snapshot:
    return dataclasses.replace(some(), rev=rev)


def test_what_is_counted_in_a_minute_is_kept_until_it_is_stored(store: Store) -> None:
    push(store, 1, minutes={NOW: {"s|x": 2, "h|3|x": 2, "u|x": 500}, NOW + 1: {"f|y": 1}})
    push(store, 2, minutes={NOW: {"s|x": 1, "r|y": 4}})
    push(store, 2, minutes={NOW: {"s|x": 1}})  # was applied before
    assert store.due_minutes().keys() == {NOW, NOW + 1}
    epoch, counted = store.minute(NOW)
    assert (epoch, counted) == (store.load([]).epoch, {"s|x": 3, "h|3|x": 2, "u|x": 500, "r|y": 4})
    assert store.minute(NOW + 2) == (epoch, {})
    without = {NOW: {"s|x": 3, "u|x": 500, "r|y": 4}, NOW + 1: {"f|y": 1}, NOW + 2: {}}
    assert store.minutes([NOW, NOW + 1, NOW + 2]) == without
    found = by_name(counted)
    assert (found["x"].successes, found["x"].histogram[3], found["x"].latency_us) == (3, 2, 500)
    assert (found["y"].rejects, found["y"].fallbacks) == (4, 4)


def test_a_minute_that_is_counted_into_after_it_was_read_is_due_again(store: Store) -> None:
    push(store, 1, minutes={NOW: {"s|x": 1}, NOW + 1: {"s|x": 1}})
    marks = store.due_minutes()
    push(store, 2, minutes={NOW: {"s|x": 1}})
    store.stored_minutes(marks)
    assert store.due_minutes().keys() == {NOW}
    assert store.due_minutes() != {NOW: marks[NOW]}
    store.stored_minutes(store.due_minutes())
    assert store.due_minutes() == {}


def test_events_are_read_again_until_they_are_stored(store: Store) -> None:
    first, second = revised("1"), revised("2")
    write(store, first, None, event={"kind": "transition", "to": "OPEN"})
    write(store, second, "1", event={"kind": "operation"})
    write(store, revised("3"), "2")  # is not worth telling
    one, two = store.past(2)
    assert (one.name, one.rev, one.event) == ("x", "1", {"kind": "transition", "to": "OPEN"})
    assert abs(one.at - time.time() * 1000) < 5_000
    assert [event.rev for event in store.past(1)] == ["1"]
    store.stored(one.cursor)
    assert store.past(1) == [two]
    store.stored(two.cursor)
    assert [event.event for event in store.past(10) if event.event] == []


def test_a_worker_says_how_far_it_has_followed(store: Store) -> None:
    write(store, revised("1"), None)
    write(store, revised("2"), "1")
    push(store, 1, host="north", followed=2)
    push(store, 1, process="q", host="south|east", followed=1)
    workers = {worker.process: worker for worker in store.heartbeats()}
    assert (workers["p"].host, workers["p"].behind) == ("north", 0)
    assert (workers["q"].host, workers["q"].behind) == ("south|east", 1)
    assert all(0 <= worker.age_ms < 5_000 for worker in workers.values())


def test_more_counters_than_lua_takes_at_once(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, _ = redis_store
    many = {f"s|b{number}": number for number in range(10_000)}
    push(store, 1, minutes={7: many})
    push(store, 2, minutes={7: many})
    assert store.minute(7)[1] == {name: 2 * count for name, count in many.items()}


def test_histograms_of_many_breakers_are_read_in_portions(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    many = {f"h|{slot}|b{number}": 1 + slot for number in range(500) for slot in range(40)}
    push(store, 1, minutes={NOW: many | {"s|b1": 7}})
    before = {name: said["calls"] for name, said in client.info("commandstats").items()}
    assert store.minute(NOW)[1] == many | {"s|b1": 7}
    asked = client.info("commandstats")["cmdstat_hscan"]["calls"] - before.get("cmdstat_hscan", 0)
    assert asked >= len(many) / SLOTS_AT_ONCE / 2
    assert store.minutes([NOW]) == {NOW: {"s|b1": 7}}


def test_a_mark_of_a_redis_that_was_emptied_stands_for_nothing(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    push(store, 1, minutes={NOW: {"s|x": 1}})
    marks = store.due_minutes()
    client.flushdb()
    push(store, 2, minutes={NOW: {"s|x": 1}})
    store.stored_minutes(marks)
    assert store.due_minutes().keys() == {NOW}


def test_events_wait_for_whoever_stores_them_and_go_then(
    redis_store: tuple[RedisStore, redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = redis_store
    for name, number in (("REMEMBERED", 100), ("REMEMBERED_AT_MOST", 900), ("FOLLOWED_MS", 0)):
        monkeypatch.setattr(redis_stores, name, number)

    def writes(first: int, last: int) -> int:
        for number in range(first, last):
            write(store, revised(str(number)), str(number - 1) if number else None, event={"kind": "operation"})
        return int(client.xlen("breaker:1:{tests}:events"))

    assert writes(0, 500) <= 300  # nobody stores: the newest
    store.past(1)  # from now on somebody does, though the database may be away
    held = client.xlen("breaker:1:{tests}:events")
    assert writes(500, 900) == held + 400
    assert 800 <= writes(900, 2_500) <= 1_100  # not for ever
    while events := store.past(500):
        store.stored(events[-1].cursor)
    held = client.xlen("breaker:1:{tests}:events")
    monkeypatch.setattr(redis_stores, "FOLLOWED_MS", 60_000)
    assert writes(2_500, 2_501) == held + 1  # others may not have followed it yet
    monkeypatch.setattr(redis_stores, "FOLLOWED_MS", 0)
    assert writes(2_501, 2_502) <= 200


def test_an_event_that_cannot_be_read_is_passed_over(
    redis_store: tuple[RedisStore, redis.Redis], caplog: pytest.LogCaptureFixture
) -> None:
    store, client = redis_store
    write(store, revised("1"), None, event={"kind": "transition"})
    for nonsense in ({"name": "x"}, {"name": "x", "rev": "2", "at": "soon", "event": "{}"}, {"event": "["}):
        client.xadd("breaker:1:{tests}:events", nonsense)
    write(store, revised("3"), "1", event={"kind": "operation"})
    assert [event.rev for event in store.past(10) if event.event] == ["1", "3"]
    assert caplog.text.count("cannot be read") == 3


def test_a_minute_expires(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    push(store, 1, minutes={7: {"s|x": 1, "h|1|x": 1}})
    for key in ("minute:7", "minute-slots:7"):
        assert 7_000_000 < client.pttl("breaker:1:{tests}:" + key) <= 7_200_000
    assert 7_200_000 < client.pttl("breaker:1:{tests}:minutes") <= 7_500_000


def test_what_comes_into_a_minute_at_its_end_can_still_be_stored(
    redis_store: tuple[RedisStore, redis.Redis],
) -> None:
    store, _ = redis_store
    now = int(time.time()) // 60
    push(store, 1, minutes={now - 121: {"s|x": 1}, now: {"s|x": 1}})
    store.stored_minutes({now: store.due_minutes()[now]})
    assert store.due_minutes().keys() == {now - 121}
    assert store.minute(now - 121)[1] == {"s|x": 1}


def test_a_worker_that_is_gone_is_forgotten(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    push(store, 1, host="north")
    client.hset("breaker:1:{tests}:workers", "dead", f"{int(time.time() * 1000) - 61_000}|0|south")
    assert [worker.process for worker in store.heartbeats()] == ["p"]
    assert [process.decode() for process in client.hkeys("breaker:1:{tests}:workers")] == ["p"]


def test_minutes_that_are_gone_are_forgotten(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    now = int(time.time()) // 60
    push(store, 1, minutes={now - 126: {"s|x": 1}, now: {"s|x": 1}})
    store.stored_minutes(store.due_minutes())
    assert client.zcard("breaker:1:{tests}:minutes") == client.hlen("breaker:1:{tests}:stored") == 1


def test_minutes_that_nobody_stores_are_forgotten_too(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    push(store, 1, minutes={NOW - 126: {"s|x": 1}, NOW: {"s|x": 1}})
    store.register([])
    assert client.zcard("breaker:1:{tests}:minutes") == 1


def test_redis_keeps_totals_as_long_as_their_breaker(redis_store: tuple[RedisStore, redis.Redis]) -> None:
    store, client = redis_store
    push(store, 1, totals={"x": {"s": 1}})
    store.found({"y": {"s": 1}})
    opened, event = turned(None, State.OPEN)
    write(store, opened, None, name="z", **event)
    assert all(client.pttl(f"breaker:1:{{tests}}:totals:{name}") > 24 * 3600 * 1000 for name in "xyz")
    client.pexpire("breaker:1:{tests}:totals:x", 5_000)
    store.register([Registration(name="x", labels={}, policy=Policy())])
    assert client.pttl("breaker:1:{tests}:totals:x") > 24 * 3600 * 1000
    client.flushall()
    assert store.totals(["x"]) == {}


def test_redis_knows_a_repeated_push_for_longer_than_what_it_added_is_kept(
    redis_store: tuple[RedisStore, redis.Redis],
) -> None:
    store, client = redis_store
    push(store, 1, totals={"x": {"s": 1}})
    assert client.pttl("breaker:1:{tests}:process:p") > client.pttl("breaker:1:{tests}:totals:x")
