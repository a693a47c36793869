"""What only the store in Redis can get wrong: keys that stay for ever, portions, connections, other versions' data."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from breaker.engine.machine import newborn
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Bucket, Call, LeaseRequest, Push, Registration, StoreError, Window, Write
from breaker.engine.stores.redis import AT_ONCE, KEPT_UNSEEN_MS, KEYS_AT_ONCE, RedisStore
from breaker.engine.window import total
from tests.engine.test_store_contract import FAR, client_of
from tests.mutation import lua
from tests.programs import RedisServer, wait_for

PREFIX = "breaker:1:{tests}:"


class Kept:
    """A store, its client, and how often it has connected."""

    def __init__(self, server: RedisServer, **options: Any) -> None:
        self._name = f"kept-{secrets.token_hex(4)}"  # the server may be another test's as well
        self.client = client_of(server, client_name=self._name, **options)
        self.connects = 0
        self.store = RedisStore(self._connect, namespace="tests")

    def _connect(self) -> redis.Redis:
        self.connects += 1
        return self.client

    def open_questions(self) -> int:
        return sum(one["cmd"] == "xread" and one["name"] == self._name for one in self.client.client_list())

    def write(self, name: str = "x", **more: Any) -> Any:
        return self.store.write(Write(**{"name": name, "expected": None, "after": newborn(1), "deadline": FAR} | more))

    def push(self, sequence: int = 1, *, names: list[str] | None = None, **more: Any) -> Any:
        now = int(time.time() * 1000)
        counts = {Bucket(name, 60_000, now // 60_000): {"g|s": 1, "h|7": 2} for name in names or []}
        return self.store.push(Push(process="p", sequence=sequence, counts=counts, keep_ms=60_000, now=now, **more))

    def lease(self, generation: str) -> Any:
        request = LeaseRequest(name="x", generation=generation, token="t", slots=1, longest_ms=9_000, deadline=FAR)
        return self.store.lease(request)

    def poll(self, *expected: str, seconds: float = 0.0) -> Any:
        now = int(time.time() * 1000)
        wants = {"x": Window(60_000, 2)}
        return self.store.poll(
            Call("c", "p", ["x"]), expected=frozenset(expected), seconds=seconds, wants=wants, now=now
        )


@pytest.fixture
def kept(redis_server: RedisServer) -> Iterator[Kept]:
    made = Kept(redis_server)
    yield made
    made.store.hang_up()
    made.client.close()


def register(*names: str) -> list[Registration]:
    return [Registration(name=name, labels={"key": name}, policy=Policy()) for name in names]


def test_nothing_stays_in_redis_for_ever(kept: Kept) -> None:
    snapshot = newborn(1)
    kept.write(after=snapshot)
    kept.push(names=["x"])
    kept.lease(snapshot.id)
    kept.poll("p")
    kept.push(2, answers=["c"])
    kept.store.claim("tick", milliseconds=5_000)
    kept.store.register(register("x"))
    ttl = {key.decode().removeprefix(PREFIX).split(":")[0]: kept.client.pttl(key) for key in kept.client.scan_iter()}
    assert {*ttl} >= {
        "circuit",
        "leases",
        "meta",
        "names",
        "counts",
        "slots",
        "processes",
        "process",
        "events",
        "calls",
    }
    assert [kind for kind, left in ttl.items() if not 0 < left <= KEPT_UNSEEN_MS] == []
    assert ttl["claim"] <= 5_000
    assert ttl["circuit"] > KEPT_UNSEEN_MS - 60_000


def test_what_was_not_heard_of_for_long_is_forgotten(kept: Kept) -> None:
    two_days_ago, now = (time.time() - 2 * 86_400) * 1000, time.time() * 1000
    kept.client.zadd(PREFIX + "names", {"old": two_days_ago, "recent": now - 3_600_000})
    kept.client.zadd(PREFIX + "processes", {"old": now - 61_000, "recent": now - 50_000})
    assert [*kept.store.load().records] == ["recent"]
    kept.store.register(register("x"))
    assert kept.client.zrange(PREFIX + "names", 0, -1) == [b"recent", b"x"]
    assert kept.client.zrange(PREFIX + "processes", 0, -1) == [b"recent"]


def test_many_breakers_are_registered_and_read_in_portions(kept: Kept) -> None:
    names = [f"b{number}" for number in range(AT_ONCE * 2 + 1)]
    kept.store.register(register(*names))
    kept.write(names[-1])
    kept.push(names=names)
    assert len(names) * 10 * 2 > KEYS_AT_ONCE
    loaded = kept.store.load(windows={name: Window(60_000, 10) for name in names})
    assert sorted(loaded.records) == sorted(names)
    assert {total(one.tallies).successes for one in loaded.records.values()} == {1}
    assert {total(one.tallies).histogram[7] for one in loaded.records.values()} == {2}
    assert {name: one.registration.labels["key"] for name, one in loaded.records.items() if one.registration} == {
        name: name for name in names
    }
    assert [name for name, one in loaded.records.items() if one.snapshot] == [names[-1]]


def test_many_hashes_of_one_portion_are_read_in_turn(kept: Kept) -> None:
    names = [f"b{number}" for number in range(3)]
    kept.push(names=names)
    loaded = kept.store.load(names, windows={name: Window(60_000, 900) for name in names})
    assert [total(loaded.records[name].tallies).successes for name in names] == [1, 1, 1]


def test_hashes_that_are_empty_are_not_sent(kept: Kept) -> None:
    kept.push(names=["x"])

    def sent(buckets: int) -> int:
        before = kept.client.info("stats")["total_net_output_bytes"]
        loaded = kept.store.load(["x"], windows={"x": Window(60_000, buckets)})
        assert total(loaded.records["x"].tallies).successes == 1
        return int(kept.client.info("stats")["total_net_output_bytes"]) - before

    def least(buckets: int) -> int:
        return min(sent(buckets) for _ in range(3))  # others may use this Redis meanwhile

    sent(2)  # the script is there
    # An empty list for each takes four bytes and more; INFO's own answer differs.
    assert least(900) - least(2) < 3 * 900


def test_every_answer_carries_the_time_of_redis(kept: Kept) -> None:
    snapshot = newborn(1)
    answers = [
        kept.write(after=snapshot),
        kept.lease(snapshot.id),
        kept.push(),
        kept.store.load(["x"]),
        kept.store.load([]),
    ]
    assert [abs(answer.now / 1000 - time.time()) < 5 for answer in answers] == [True] * 5


def test_the_epoch_is_made_with_the_data_and_stays_as_long(kept: Kept) -> None:
    epochs = [kept.push().epoch, kept.store.load([]).epoch, kept.store.load(["x"]).epoch]
    assert len({*epochs}) == 1
    kept.client.flushall()
    assert kept.push(2).epoch not in epochs


def test_writes_are_counted_in_every_answer(kept: Kept) -> None:
    kept.write("a")
    kept.write("b")
    assert (kept.push().seq, kept.store.load([]).seq, kept.store.load(["a"]).seq) == (2, 2, 2)


def test_another_processs_bad_registration_hides_no_circuit(kept: Kept) -> None:
    kept.write()
    kept.client.hset(PREFIX + "circuit:x", "registration", json.dumps({"policy": {"timeout": -1}, "labels": {}}))
    record = kept.store.load(["x"]).records["x"]
    assert (record.snapshot is not None, record.registration) == (True, None)


def test_a_client_that_answers_in_text_will_do(redis_server: RedisServer) -> None:
    kept = Kept(redis_server, decode_responses=True)
    cursor, after = kept.store.cursor(), newborn(1)
    kept.write(after=after)
    kept.push(names=["x"])
    kept.poll("q")
    heard = kept.store.listen(cursor, seconds=1)
    assert heard.changed[0][1].id == after.id
    assert total(kept.store.load(["x"], windows={"x": Window(60_000, 2)}).records["x"].tallies).successes == 1
    assert kept.store.cursor().startswith(heard.cursor.split(" ")[0])
    kept.store.hang_up()
    kept.client.close()


def test_news_and_calls_are_heard_each_from_where_one_was(kept: Kept) -> None:
    cursor = kept.store.cursor()
    assert cursor == "0-0 0-0"
    kept.write("a")
    kept.poll("q")
    heard = kept.store.listen(cursor, seconds=1)
    assert ([name for name, _ in heard.changed], heard.calls) == (["a"], [Call("c", "p", ["x"])])
    kept.write("b")
    later = kept.store.listen(heard.cursor, seconds=1)
    assert [snapshot.seq for _, snapshot in later.changed] == [2]
    assert ([name for name, _ in later.changed], later.calls) == (["b"], [])
    assert kept.store.cursor() == later.cursor


def test_a_question_stays_open_until_there_are_news(kept: Kept) -> None:
    cursor = kept.store.cursor()
    for _ in range(3):
        assert kept.store.listen(cursor, seconds=0.01).changed == []
    assert kept.open_questions() == 1
    kept.write()
    assert kept.store.listen(cursor, seconds=1).changed[0][0] == "x"


def test_hanging_up_ends_the_question_and_the_next_begins_anew(kept: Kept) -> None:
    cursor = kept.store.cursor()
    kept.store.listen(cursor, seconds=0)
    kept.store.hang_up()
    kept.store.hang_up()  # a second time does nothing
    wait_for(lambda: not kept.open_questions(), "the question is closed")
    kept.write()
    assert kept.store.listen(cursor, seconds=1).changed[0][0] == "x"


def test_another_question_does_not_wait_for_the_first(kept: Kept) -> None:
    before = kept.store.cursor()
    kept.store.listen(before, seconds=0)
    kept.write()
    after = kept.store.cursor()
    assert kept.store.listen(after, seconds=0).changed == []
    kept.write("y")
    assert [name for name, _ in kept.store.listen(after, seconds=1).changed] == ["y"]


def test_no_connection_is_left_behind(kept: Kept) -> None:
    for number in range(5):
        kept.poll(f"dead-{number}", seconds=0.001)
        kept.store.listen(kept.store.cursor(), seconds=0)
    assert len(kept.client.connection_pool._in_use_connections) == 1  # the open question's


def test_a_store_that_has_gone_is_a_store_error_and_is_found_again(own_redis: RedisServer) -> None:
    kept = Kept(own_redis)
    cursor = kept.store.cursor()
    kept.store.listen(cursor, seconds=0)
    own_redis.kill()
    for ask in (lambda: kept.store.listen(cursor, seconds=1), lambda: kept.poll("q"), kept.push, kept.store.cursor):
        with pytest.raises(StoreError, match="Error: "):
            ask()
    own_redis.start()
    kept.write()
    assert kept.store.listen(cursor, seconds=1).changed[0][0] == "x"
    assert total(kept.poll("q")["x"]).fires == 0
    kept.store.hang_up()
    kept.client.close()


def test_a_poll_reads_without_its_script_too(kept: Kept) -> None:
    kept.push(names=["x"])
    kept.client.script_flush()
    answering = threading.Timer(0.02, lambda: kept.push(2, answers=["c"]))
    answering.start()
    assert total(kept.poll("p", seconds=2)["x"]).successes == 1
    answering.join()


def test_a_poll_ends_with_the_last_answer(kept: Kept) -> None:
    answering = threading.Timer(0.02, lambda: kept.push(1, names=["x"], answers=["c"]))
    answering.start()
    began = time.monotonic()
    assert total(kept.poll("p", seconds=5)["x"]).successes == 1
    assert time.monotonic() - began < 2
    answering.join()


def test_one_client_is_made_and_a_forked_child_makes_its_own(kept: Kept) -> None:
    assert kept.connects == 0
    kept.push()
    kept.push(2)
    assert kept.connects == 1
    kept.store.renew_after_fork()
    kept.push(3)
    assert kept.connects == 2


@pytest.mark.parametrize("namespace", ["", "a{b", "a}b"])
def test_a_namespace_that_breaks_the_hash_tag_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError) as raised:
        RedisStore(lambda: None, namespace=namespace)
    assert str(raised.value) == (
        f"namespace={namespace!r}: it stands in a hash tag; leave braces out, and say something"
    )


def test_a_claim_ends_by_itself(kept: Kept) -> None:
    assert kept.store.claim("tick", milliseconds=60_000)
    assert kept.store.claim("tock", milliseconds=60_000)
    kept.client.pexpire(PREFIX + "claim:tick", 1)
    wait_for(lambda: kept.store.claim("tick", milliseconds=60_000), "it has ended")


@pytest.mark.parametrize(("ends", "longest", "renewed"), [(500, 700, 700), (500, 60_000, 2_000), (-1, 60_000, -1)])
def test_a_lease_is_renewed_up_to_its_longest_unless_it_has_ended(
    kept: Kept, ends: int, longest: int, renewed: int
) -> None:
    now = kept.store.load([]).now
    kept.client.hset(PREFIX + "leases:x", "t", f"{now + ends}:{now + longest}")
    kept.push(renewals=[("x", "t")])
    until, last = map(int, kept.client.hget(PREFIX + "leases:x", "t").split(b":"))
    assert until - now == pytest.approx(renewed, abs=400)
    assert last == now + longest


def test_a_lease_that_has_ended_decides_nothing(kept: Kept) -> None:
    stands = kept.write().current
    now = kept.store.load([]).now
    kept.client.hset(PREFIX + "leases:x", "t", f"{now}:{now + 60_000}")
    assert not kept.write(expected=stands.rev, after=newborn(2), token="t").won


def test_a_lease_that_was_given_before_the_clock_was_set_back_makes_way(kept: Kept) -> None:
    stands = kept.write().current
    now = kept.store.load([]).now
    kept.client.hset(PREFIX + "leases:x", "old", f"{now + 3_600_000}:{now + 3_660_000}")
    assert kept.lease(stands.id).granted


def test_a_lease_is_given_for_no_longer_than_its_longest(kept: Kept) -> None:
    stands = kept.write().current
    request = LeaseRequest(name="x", generation=stands.id, token="t", slots=1, longest_ms=700, deadline=FAR)
    assert kept.store.lease(request).granted
    ends, longest = map(int, kept.client.hget(PREFIX + "leases:x", "t").split(b":"))
    assert ends == longest


def test_a_process_that_is_heard_of_no_more_is_waited_for_no_more(kept: Kept) -> None:
    now = kept.store.load([]).now
    kept.client.zadd(PREFIX + "processes", {"dead": now - 60_000})
    assert kept.push(wants={"x": Window(60_000, 2)}).live == {"p"}


def test_a_circuit_that_nobody_registers_is_kept_for_a_time(kept: Kept) -> None:
    kept.write()
    assert 0 < kept.client.pttl(PREFIX + "circuit:x") <= KEPT_UNSEEN_MS


def test_a_primary_that_was_demoted_is_dialled_anew(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name leads to the new one by now, but a replica keeps its clients."""
    kept, look_up = Kept(redis_server), socket.getaddrinfo
    kept.push(1)
    with contextlib.ExitStack() as stack:
        new = RedisServer(tmp_path)
        stack.callback(new.kill)
        old = stack.enter_context(redis_server.client())
        old.execute_command("REPLICAOF", "127.0.0.1", str(new.port))
        stack.callback(old.execute_command, "REPLICAOF", "NO", "ONE")
        moved = {redis_server.port: new.port}
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, port, *more, **named: look_up(host, moved[port], *more, **named)
        )
        with pytest.raises(StoreError, match="ReadOnlyError"):
            kept.push(2)
        assert kept.push(2).epoch


def test_an_error_that_is_none_of_rediss_is_a_lost_store_too(redis_server: RedisServer) -> None:
    kept = Kept(redis_server)

    def unreachable(*args: Any, **more: Any) -> Any:
        raise redis.exceptions.RedisClusterException("no node answers")

    kept.push(1)
    kept.client.evalsha = unreachable
    with pytest.raises(StoreError, match="RedisClusterException: no node answers"):
        kept.push(2)


def test_windows_beyond_one_portion_are_read(redis_server: RedisServer) -> None:
    kept = Kept(redis_server)
    names = [f"b{number}" for number in range(KEYS_AT_ONCE // 2 + 1)]
    kept.push(1, names=[names[-1]])
    windows = kept.push(2, wants={name: Window(60_000, 2) for name in names}).windows
    assert total(windows[names[-1]]).successes == 1
    assert len(windows) == len(names)


def test_each_mutant_of_a_script_finds_what_it_changes() -> None:
    assert [(name, old) for name, old, _ in lua.MUTANTS if old not in lua.source(name)] == []
