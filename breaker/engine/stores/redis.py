"""The store in Redis or Valkey (6.2 or newer): what all processes share. The only module that speaks Redis.

Keys, all with one hash tag, so that one round trip can reach every breaker of a deployment:

    breaker:1:{namespace}:meta                       hash    epoch (random, made with the data), seq (count of writes)
    breaker:1:{namespace}:names                      zset    breaker -> ms when it was last registered
    breaker:1:{namespace}:circuit:<name>             hash    rev, seq, id, data (JSON), registration (JSON)
    breaker:1:{namespace}:leases:<name>              hash    token -> "<ends ms>:<longest ms>"
    breaker:1:{namespace}:counts:<name>:<width>:<n>  hash    counters of bucket n of `width` ms (see window.py)
    breaker:1:{namespace}:slots:<name>:<width>:<n>   hash    its latency histogram
    breaker:1:{namespace}:minute:<n>                 hash    what all breakers counted in minute n, for history
    breaker:1:{namespace}:minute-slots:<n>           hash    their latency histograms
    breaker:1:{namespace}:minutes                    zset    n -> pushes into it
    breaker:1:{namespace}:stored                     hash    what of that is stored: n -> "<epoch>:<pushes>",
                                                             "events" -> entry
    breaker:1:{namespace}:totals:<name>              hash    running totals (see window.py); "since": ms when it opened;
                                                             "founded": they stand on what was known of them before
    breaker:1:{namespace}:processes                  zset    process -> ms when it was last heard of
    breaker:1:{namespace}:workers                    hash    process -> "<ms>|<newest write that it follows>|<host>"
    breaker:1:{namespace}:process:<id>               string  the sequence of its last push
    breaker:1:{namespace}:events                     stream  every write of a circuit
    breaker:1:{namespace}:calls                      stream  calls for counts
    breaker:1:{namespace}:awaited:<call>             set     the processes that have yet to answer
    breaker:1:{namespace}:answered:<call>            list    one word, once all have
    breaker:1:{namespace}:claim:<key>                string  what is done once in the cluster

The scripts stand in lua/, each with its contract; redis-py loads them anew when Redis has forgotten them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Concatenate, ParamSpec, TypeVar

from redis.exceptions import NoScriptError, ReadOnlyError

from breaker.engine.haste import haste
from breaker.engine.machine import Snapshot, State, new_generation
from breaker.engine.stores.base import (
    FOLLOWED_MS,
    LEASE_MS,
    LIVE_MS,
    MINUTE_MS,
    MINUTES_KEPT_MS,
    REMEMBERED,
    REMEMBERED_AT_MOST,
    UNHEARD_MS,
    UNSEEN_MS,
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
    StoreError,
    Window,
    Worker,
    Write,
    Written,
    decode,
    decode_registration,
    encode,
    encode_registration,
)
from breaker.engine.window import OPEN_MS, SLOT, Tally, merge

log = logging.getLogger("breaker")

SCHEMA = "1"
KEPT_UNSEEN_MS = UNSEEN_MS + 3600 * 1000
MINUTES_LISTED_MS = MINUTES_KEPT_MS + 5 * MINUTE_MS
"""Longer than what is counted in them is kept: of that which comes at the last moment somebody must learn."""
AT_ONCE = 100
"""Breakers that one round trip registers or reads."""
KEYS_AT_ONCE = 2_000
"""Hashes that one script reads: it must not hold Redis for long."""
MINUTES_AT_ONCE = 3
"""The same of minutes: 1,000 breakers fill each with some 6,000 fields."""
SLOTS_AT_ONCE = 2_000
"""Fields of their histograms, of which 1,000 breakers have 100,000 and more a minute."""

SINCE, FOUNDED = "since", "founded"

P = ParamSpec("P")
R = TypeVar("R")


def _guarded(method: Callable[Concatenate[RedisStore, P], R]) -> Callable[Concatenate[RedisStore, P], R]:
    """Whatever goes wrong with Redis or with what it answers is a StoreError. (Not all of redis-py's errors are
    RedisErrors: a cluster's are not.)"""

    @functools.wraps(method)
    def guarded(self: RedisStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            if isinstance(error, ReadOnlyError):
                self._dial_anew()
            raise StoreError(f"{type(error).__name__}: {error}") from error

    return guarded


class RedisStore:
    """Over a client made by `connect`: a redis.Redis, a RedisCluster, or what django-redis hands out.

    Give the client short timeouts and no retries: a call may wait for it.
    """

    def __init__(self, connect: Callable[[], Any], *, namespace: str) -> None:
        if not namespace or set(namespace) & set("{}"):
            raise ValueError(f"namespace={namespace!r}: it stands in a hash tag; leave braces out, and say something")
        self._connect = connect
        self._prefix = f"breaker:{SCHEMA}:{{{namespace}}}:"
        self._connecting = threading.Lock()
        self._client: Any = None
        self._line: _Line | None = None

    def _dial_anew(self) -> None:
        """Who is read-only now was the primary once, and keeps its clients; its name may lead to the new one."""
        pool = getattr(self._client, "connection_pool", None)
        if pool is not None:
            pool.disconnect(inuse_connections=False)

    @property
    def _redis(self) -> Any:
        if self._client is None:
            with self._connecting:
                if self._client is None:
                    client = self._connect()
                    self._scripts = {name: client.register_script(_script(name)) for name in _SCRIPTS}
                    self._client = client
        return self._client

    def renew_after_fork(self) -> None:
        self._connecting = threading.Lock()
        self._client = self._line = None

    def _key(self, *parts: object) -> str:
        return self._prefix + ":".join(str(part) for part in parts)

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        client = self._redis
        return self._scripts[name](keys=keys, args=args, client=client)

    # -- counts ----------------------------------------------------------------------------------------------------

    @_guarded
    def push(self, push: Push) -> Pushed:
        adding = list(self._adding(push))
        reading = self._window_keys(push.wants, push.now)
        reading, beyond = reading[:KEYS_AT_ONCE], reading[KEYS_AT_ONCE:]
        polls = [self._key(kind, call) for call in push.answers for kind in ("awaited", "answered")]
        leases = [self._key("leases", name) for name, _ in push.renewals]
        keys = [self._key("processes"), self._key("process", push.process)]
        keys += [self._key(kept) for kept in ("meta", "workers", "minutes")]
        keys += [*(key for key, _, _ in adding), *(key for _, key in reading), *leases, *polls]
        args = [push.process, push.sequence, new_generation(), LIVE_MS, LEASE_MS]
        args += [len(adding), len(reading), len(leases), len(push.answers), f"{push.followed}|{push.host}"]
        args += [json.dumps([*push.minutes]), MINUTES_LISTED_MS]
        args += [json.dumps([keep, *(part for item in fields.items() for part in item)]) for _, keep, fields in adding]
        args += [token for _, token in push.renewals]
        moment, epoch, seq, live, hashes = self._run("push", keys, args)
        tallies = [_tally(flat) for flat in hashes]
        if beyond:
            _, _, _, more = self._gather([key for _, key in beyond])
            tallies += [_tally(flat) for flat in more]
        windows: dict[str, list[Tally]] = {name: [] for name in push.wants}
        for (name, _), counts in zip([*reading, *beyond], tallies, strict=True):
            windows[name].append(counts)
        return Pushed(
            now=int(moment), epoch=_text(epoch), seq=int(seq), live=frozenset(map(_text, live)), windows=windows
        )

    def _window_keys(self, wants: Mapping[str, Window], now: int) -> list[tuple[str, str]]:
        """Breaker and key of each hash of counts."""
        return [
            (name, self._key("counts", name, window.width_ms, number))
            for name, window in wants.items()
            for number in window.numbers(now)
        ]

    def _adding(self, push: Push) -> Iterator[tuple[str, int, Tally]]:
        """Hashes to add to: key, ms that it is kept, what is added."""
        adding = [
            *(
                ("counts", "slots", (one.name, one.width_ms, one.number), push.keep_ms, fields)
                for one, fields in push.counts.items()
            ),
            *(
                ("minute", "minute-slots", (number,), MINUTES_KEPT_MS, fields)
                for number, fields in push.minutes.items()
            ),
        ]
        for counted, histogram, where, keep_ms, fields in adding:
            slots = {key: count for key, count in fields.items() if key.startswith(SLOT + "|")}
            yield self._key(counted, *where), keep_ms, {key: fields[key] for key in fields if key not in slots}
            if slots:
                yield self._key(histogram, *where), keep_ms, slots
        for name, fields in push.totals.items():
            yield self._key("totals", name), KEPT_UNSEEN_MS, fields

    # -- circuits --------------------------------------------------------------------------------------------------

    @_guarded
    def write(self, write: Write) -> Written:
        name, after = write.name, write.after
        keys = [self._key("circuit", name), self._key("leases", name)]
        keys += [self._key(kept) for kept in ("meta", "events", "stored")]
        keys.append(self._key("totals", name))
        args = [write.expected or "", after.rev, after.id, encode(after), write.deadline, write.not_before]
        args += [write.token or "", name, json.dumps(dict(write.event))]
        args += [REMEMBERED, REMEMBERED_AT_MOST, FOLLOWED_MS, KEPT_UNSEEN_MS, new_generation()]
        args += [write.change, int(write.opens)]
        won, now, rev, seq, data = self._run("write", keys, args)
        current = decode(_text(data), rev=_text(rev), seq=int(seq)) if data else None
        return Written(won=bool(won), now=int(now), current=current)

    @_guarded
    def load(
        self,
        names: Sequence[str] | None = None,
        *,
        windows: Mapping[str, Window] | None = None,
        histograms: bool = True,
    ) -> Records:
        if names is None:
            names = self._names()
        found: dict[str, Record] = {}
        moment, epoch, seq = 0, "", -1
        kinds = ("counts", "slots") if histograms else ("counts",)
        for some in _portions(names, AT_ONCE) if names else [[]]:
            moment, epoch, first, hashes = self._gather([self._key("circuit", name) for name in some])
            seq = first if seq < 0 else min(seq, first)
            circuits = {name: _record(name, _fields(flat)) for name, flat in zip(some, hashes, strict=True)}
            found |= circuits if windows is None else self._counted(circuits, windows, moment, kinds)
        return Records(now=moment, epoch=epoch, seq=seq, records=found)

    def _names(self) -> list[str]:
        oldest = self._now() - UNSEEN_MS
        return [_text(name) for name in self._redis.zrangebyscore(self._key("names"), oldest, "+inf")]

    def _now(self) -> int:
        now, _, _, _ = self._gather([])
        return now

    def _gather(self, keys: Sequence[str]) -> tuple[int, str, int, list[Any]]:
        """Shared clock, epoch, count of writes, and the hashes, each for `_fields` or `_tally` to read."""
        hashes: list[Any] = [()] * len(keys)
        for start in range(0, max(1, len(keys)), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            now, epoch, seq, found = self._run("gather", [self._key("meta"), *some], [new_generation()])
            hashes[start : start + len(some)] = _hashes(found, len(some))
        return int(now), _text(epoch), int(seq), hashes

    def _counted(
        self, circuits: Mapping[str, Record], windows: Mapping[str, Window], now: int, kinds: Sequence[str]
    ) -> dict[str, Record]:
        asked = [
            (name, self._key(kind, name, window.width_ms, number))
            for name, record in circuits.items()
            if (window := windows.get(name) or (record.registration and Window.of(record.registration.policy)))
            for number in window.numbers(now)
            for kind in kinds
        ]
        tallies: dict[str, list[Tally]] = {name: [] for name in circuits}
        trials = self._trials(circuits, now)
        _, _, _, hashes = self._gather([key for _, key in asked])
        for (name, _), flat in zip(asked, hashes, strict=True):
            if flat:
                tallies[name].append(_tally(flat))
        return {
            name: dataclasses.replace(one, tallies=tallies[name], trials=trials.get(name, 0))
            for name, one in circuits.items()
        }

    def _trials(self, circuits: Mapping[str, Record], now: int) -> dict[str, int]:
        """The leases that are held; only a half-open circuit has any."""
        names = [name for name, one in circuits.items() if one.snapshot and one.snapshot.state is State.HALF_OPEN]
        if not names:
            return {}
        _, _, _, hashes = self._gather([self._key("leases", name) for name in names])
        ends = {
            name: [int(lease.partition(":")[0]) for lease in _fields(flat).values()]
            for name, flat in zip(names, hashes, strict=True)
        }
        return {name: sum(0 < end - now <= LEASE_MS for end in held) for name, held in ends.items()}

    @_guarded
    def register(self, registrations: Sequence[Registration]) -> None:
        now = self._now()
        for some in _portions(registrations, AT_ONCE):
            pipe = self._redis.pipeline(transaction=False)
            pipe.zremrangebyscore(self._key("processes"), "-inf", now - 60_000)
            pipe.zremrangebyscore(self._key("names"), "-inf", now - UNSEEN_MS)
            for one in some:
                circuit = self._key("circuit", one.name)
                pipe.zadd(self._key("names"), {one.name: now})
                pipe.hset(circuit, "registration", encode_registration(one))
                pipe.pexpire(circuit, KEPT_UNSEEN_MS)
                pipe.pexpire(self._key("totals", one.name), KEPT_UNSEEN_MS)
            for kept in ("meta", "names", "processes", "workers", "events", "calls", "stored"):
                pipe.pexpire(self._key(kept), KEPT_UNSEEN_MS)
            pipe.execute()
        self._forget_minutes(now)

    # -- history ---------------------------------------------------------------------------------------------------

    @_guarded
    def past(self, count: int) -> Sequence[Event]:
        after = self._redis.hget(self._key("stored"), "events")
        if after is None:  # from now on somebody stores them, and a writer keeps what waits
            self._redis.hsetnx(self._key("stored"), "events", "0-0")
        start = f"({_text(after)}" if after else "-"
        return [
            _event(_text(entry), _fields(fields))
            for entry, fields in self._redis.xrange(self._key("events"), min=start, count=count)
        ]

    @_guarded
    def stored(self, cursor: str) -> None:
        self._redis.hset(self._key("stored"), "events", cursor)

    @_guarded
    def due_minutes(self) -> Mapping[int, str]:
        _, epoch, _, (stored,) = self._gather([self._key("stored")])
        marks = _fields(stored)
        counted = self._redis.zrange(self._key("minutes"), 0, -1, withscores=True)
        due = {int(number): f"{epoch}:{int(pushes)}" for number, pushes in counted}
        return {number: mark for number, mark in due.items() if marks.get(str(number)) != mark}

    @_guarded
    def minute(self, number: int) -> tuple[str, Tally]:
        _, epoch, _, (counted,) = self._gather([self._key("minute", number)])
        slots = self._redis.hscan_iter(self._key("minute-slots", number), count=SLOTS_AT_ONCE)
        return epoch, _tally(counted) | _tally(dict(slots))

    @_guarded
    def minutes(self, numbers: Sequence[int]) -> Mapping[int, Tally]:
        found: dict[int, Tally] = {}
        for some in _portions(numbers, MINUTES_AT_ONCE):
            _, _, _, hashes = self._gather([self._key("minute", number) for number in some])
            found |= zip(some, map(_tally, hashes), strict=True)
        return found

    @_guarded
    def stored_minutes(self, marks: Mapping[int, str]) -> None:
        if marks:
            self._redis.hset(self._key("stored"), mapping={str(number): mark for number, mark in marks.items()})
            self._forget_minutes(self._now())

    def _forget_minutes(self, now: int) -> None:
        """Those whose hashes have expired."""
        oldest = (now - MINUTES_LISTED_MS) // MINUTE_MS
        minutes = self._key("minutes")
        if old := [number for number in self._redis.zrange(minutes, 0, -1) if int(number) < oldest]:
            self._redis.zrem(minutes, *old)
            self._redis.hdel(self._key("stored"), *old)

    @_guarded
    def totals(self, names: Sequence[str]) -> Mapping[str, Tally]:
        now, _, _, hashes = self._gather([self._key("totals", name) for name in names])
        found = ((name, _tally(flat)) for name, flat in zip(names, hashes, strict=True))
        return {name: _running(fields, now) for name, fields in found if fields.pop(FOUNDED, 0)}

    @_guarded
    def found(self, known: Mapping[str, Tally]) -> None:
        for some in _portions([*known], AT_ONCE):
            told = [json.dumps([part for item in known[name].items() for part in item]) for name in some]
            self._run("found", [self._key("totals", name) for name in some], [KEPT_UNSEEN_MS, *told])

    @_guarded
    def heartbeats(self) -> Sequence[Worker]:
        now, _, seq, (heard,) = self._gather([self._key("workers")])
        found: list[Worker] = []
        for process, said in _fields(heard).items():
            at, followed, host = said.split("|", 2)
            if now - int(at) < UNHEARD_MS:
                age, behind = max(0, now - int(at)), max(0, seq - int(followed))
                found.append(Worker(process=process, host=host, age_ms=age, behind=behind))
            else:
                self._redis.hdel(self._key("workers"), process)
        return found

    # -- leases ----------------------------------------------------------------------------------------------------

    @_guarded
    def lease(self, request: LeaseRequest) -> Leased:
        keys = [self._key("circuit", request.name), self._key("leases", request.name)]
        args = [request.generation, request.token, request.slots, LEASE_MS, request.longest_ms, request.deadline]
        granted, now = self._run("lease", keys, args)
        return Leased(granted=bool(granted), now=int(now))

    @_guarded
    def release(self, name: str, token: str) -> None:
        self._redis.hdel(self._key("leases", name), token)

    # -- news ------------------------------------------------------------------------------------------------------

    @_guarded
    def cursor(self) -> str:
        return " ".join(self._last(self._key(stream)) for stream in ("events", "calls"))

    def hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _last(self, stream: str) -> str:
        newest = self._redis.xrevrange(stream, count=1)
        return _text(newest[0][0]) if newest else "0-0"

    @_guarded
    def listen(self, cursor: str, *, seconds: float) -> Heard:
        events, calls = self._key("events"), self._key("calls")
        after = dict(zip((events, calls), cursor.split(" "), strict=True))
        changed: list[tuple[str, Snapshot]] = []
        called: list[Call] = []
        for stream, entries in self._await([*after], [*after.values()], seconds):
            for entry, fields in entries:
                after[stream] = entry
                if stream == calls:
                    call = json.loads(fields["call"])
                    called.append(Call(call["id"], call["process"], call["names"]))
                else:
                    snapshot = decode(fields["data"], rev=fields["rev"], seq=int(fields["seq"]))
                    changed.append((fields["name"], snapshot))
        return Heard(cursor=" ".join(after.values()), changed=changed, calls=called)

    def _await(
        self, streams: list[str], ids: list[str], seconds: float
    ) -> Iterable[tuple[str, list[tuple[str, dict[str, str]]]]]:
        """XREAD BLOCK on a connection kept for it, waited for on this side.

        Redis ends a blocking command up to 100 ms late (its timer runs ten times a second), so the question stays
        open over several waits, and the client's own short timeout does not apply to it.
        """
        node = self._node()
        line = self._line or _Line(node.connection_pool)
        self._line = None
        try:
            line.ask(streams, ids)
            found = None
            if line.answered(seconds):
                with haste():
                    found = node.parse_response(line.connection, "XREAD")
        except BaseException:
            line.close()
            raise
        self._line = line
        if not found:
            return
        for stream, entries in found.items() if isinstance(found, dict) else found:
            # RESP3 nests the entries of a stream once more.
            listed = entries[0] if entries and isinstance(entries[0], list) else entries
            yield _text(stream), [(_text(entry), _fields(fields)) for entry, fields in listed]

    def _node(self) -> Any:
        """A client of the one server that has our keys."""
        client = self._redis
        if _is_cluster(client):
            return client.get_redis_connection(client.get_node_from_key(self._key("calls")))
        return client

    @_guarded
    def poll(
        self, call: Call, *, expected: frozenset[str], seconds: float, wants: Mapping[str, Window], now: int
    ) -> Mapping[str, Sequence[Tally]]:
        reading = self._window_keys(wants, now + int(seconds * 1000))
        keys = [key for _, key in reading]
        hashes = self._polled(call, expected, seconds, keys)
        if hashes is None:
            _, _, _, hashes = self._gather(keys)
        windows: dict[str, list[Tally]] = {name: [] for name in wants}
        for (name, _), flat in zip(reading, hashes, strict=True):
            windows[name].append(_tally(flat))
        return windows

    def _polled(self, call: Call, expected: frozenset[str], seconds: float, keys: Sequence[str]) -> list[Any] | None:
        """Call, wait and read in one question: a round trip costs a busy process many a turn of its threads.

        None: not all answered in time. That wait is ended on this side, by hanging up, for Redis would end it up to
        100 ms late.
        """
        awaited, answered = self._key("awaited", call.id), self._key("answered", call.id)
        pool = self._node().connection_pool
        line = pool.get_connection()
        asked: list[tuple[Any, ...]] = [
            ("SADD", awaited, *expected),
            ("PEXPIRE", awaited, 1_000),
            ("XADD", self._key("calls"), "MAXLEN", "~", 100, "*", "call", json.dumps(dataclasses.asdict(call))),
            ("BLPOP", answered, 1),
            ("EVALSHA", self._scripts["gather"].sha, len(keys) + 1, self._key("meta"), *keys, new_generation()),
        ]
        read = False
        try:
            line.send_packed_command(line.pack_commands(asked))
            for _ in range(3):
                line.read_response()
            if line.can_read(timeout=seconds):
                line.read_response()
                found = line.read_response()
                read = True
                return _hashes(found[3], len(keys))
        except NoScriptError:
            read = True
        finally:
            if not read:
                line.disconnect()
            pool.release(line)
        return None

    @_guarded
    def claim(self, key: str, *, milliseconds: int) -> bool:
        return bool(self._redis.set(self._key("claim", key), "1", nx=True, px=milliseconds))


class _Line:
    """A connection on which XREAD BLOCK is open."""

    BLOCK = 2.0

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.connection = pool.get_connection()
        self._asked: tuple[list[str], list[str]] | None = None
        self._asked_at = 0.0

    def ask(self, streams: list[str], ids: list[str]) -> None:
        """Ask, unless this very question is still open. Another one cannot be taken back but by hanging up."""
        if self._asked == (streams, ids):
            return
        if self._asked is not None:
            self.connection.disconnect()
        self.connection.send_command("XREAD", "BLOCK", int(self.BLOCK * 1000), "STREAMS", *streams, *ids)
        self._asked, self._asked_at = (streams, ids), time.monotonic()

    def answered(self, seconds: float) -> bool:
        if self.connection.can_read(timeout=max(seconds, 0.002)):
            self._asked = None
            return True
        if time.monotonic() - self._asked_at > self.BLOCK + 1:
            # Perhaps the connection is dead, perhaps the machine is busy: ask anew. The pushes tell a lost store.
            self.connection.disconnect()
            self._asked = None
        return False

    def close(self) -> None:
        self.connection.disconnect()
        self._pool.release(self.connection)


_SCRIPTS = ("push", "write", "lease", "gather", "found")


@functools.cache
def _script(name: str) -> str:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")


def _is_cluster(client: Any) -> bool:
    return hasattr(client, "get_node_from_key")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(values: Sequence[bytes | str]) -> Iterator[str]:
    """In C: a reading of all breakers has thousands of them."""
    return map(bytes.decode, values) if values and isinstance(values[0], bytes) else map(str, values)  # type: ignore[arg-type]


def _flat(found: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """Fields and values, from the flat list of RESP2 or the mapping of RESP3."""
    return ([*found], [*found.values()]) if isinstance(found, Mapping) else (found[::2], found[1::2])


def _fields(found: Any) -> dict[str, str]:
    fields, values = _flat(found)
    return dict(zip(_texts(fields), _texts(values), strict=True))


def _tally(found: Any) -> Tally:
    fields, counts = _flat(found)
    return dict(zip(_texts(fields), map(int, counts), strict=True))


def _running(fields: Tally, now: int) -> Tally:
    """With the time that it has been open until now."""
    if (since := fields.pop(SINCE, None)) is not None:
        merge(fields, {OPEN_MS: max(0, now - since)})
    return fields


def _hashes(found: Sequence[Any], count: int) -> list[Any]:
    """So many hashes, of which `gather` answered those that are not empty: place (from 1), content, ..."""
    hashes: list[Any] = [()] * count
    for place, flat in zip(found[::2], found[1::2], strict=True):
        hashes[int(place) - 1] = flat
    return hashes


def _record(name: str, fields: Mapping[str, str]) -> Record:
    data, registered = fields.get("data"), fields.get("registration")
    return Record(
        name=name,
        snapshot=decode(data, rev=fields["rev"], seq=int(fields["seq"])) if data else None,
        registration=_registration(name, registered) if registered else None,
    )


def _event(cursor: str, fields: Mapping[str, str]) -> Event:
    """One that this version cannot read says nothing: what follows it must not wait for it."""
    try:
        said = json.loads(fields["event"])
        return Event(cursor=cursor, name=fields["name"], rev=fields["rev"], at=int(fields["at"]), event={**said})
    except (ValueError, KeyError, TypeError) as error:
        log.warning("Event %s in the shared store cannot be read, and is left out (%r)", cursor, error)
        return Event(cursor=cursor, name="", rev="", at=0, event={})


def _registration(name: str, data: str) -> Registration | None:
    """None for one that this version cannot read: a newer one's, during a roll-out."""
    try:
        return decode_registration(name, data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _portions(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
