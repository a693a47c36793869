"""Stores that the workers of a schedule share: they can be emptied, copied, and put back to what they were.

In both a call for counts reaches at once who is awake, nobody waits in real time, and the clock moves when told.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from breaker.engine.machine import newborn
from breaker.engine.stores import redis as redis_store
from breaker.engine.stores.base import Call
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.stores.redis import RedisStore, _fields
from breaker.engine.sync import Sync

LASTING = (
    "_epoch",
    "_seq",
    "_circuits",
    "_registered",
    "_counts",
    "_leases",
    "_seen",
    "_sequences",
    "_news",
    "_forgotten",
)


class SharedMemory(MemoryStore):
    def __init__(self, now: Any) -> None:
        super().__init__(now)
        self.awake: list[Sync] = []

    def _tell(self, news: Any) -> None:
        super()._tell(news)
        if isinstance(news, Call):
            for worker in list(self.awake):
                worker.listen(0)

    def poll(self, call: Call, **asked: Any) -> Any:
        return super().poll(call, **asked | {"seconds": 0})

    def empty(self) -> None:
        end = int(self.cursor())
        self._empty()
        self._forgotten = end  # as in Redis: what comes is newer than any cursor

    def copied(self) -> dict[str, Any]:
        return copy.deepcopy({name: getattr(self, name) for name in LASTING})

    def restore(self, copied: dict[str, Any]) -> None:
        missed = int(self.cursor()) - copied["_forgotten"] - len(copied["_news"])
        for name, value in copy.deepcopy(copied).items():
            setattr(self, name, value)
        self._news += [("nobody", newborn(0))] * missed  # no cursor meets again what it has passed


CLOCK = "clock"
_UNDER_CLOCK = """
local real = redis
local redis = {call = function(command, ...)
  if command == "TIME" then
    local ms = tonumber(real.call("GET", "clock"))
    return {math.floor(ms / 1000), (ms % 1000) * 1000}
  elseif command == "PEXPIRE" then
    return 1
  end
  return real.call(command, ...)
end}
"""
"""Set before a script of ours, gives it this clock for Redis's own; what would expire by Redis's stays."""


class SharedRedis(RedisStore):
    """A real Redis or Valkey."""

    def __init__(self, client: redis.Redis, now: Callable[[], int], *, namespace: str = "tests") -> None:
        super().__init__(lambda: client, namespace=namespace)
        self._now_ms = now
        self.awake: list[Sync] = []
        self.empty()

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        script = self._redis.register_script(_UNDER_CLOCK + redis_store._script(name))
        self._redis.set(CLOCK, self._now_ms())
        return script(keys=keys, args=args)

    def _await(self, streams: list[str], ids: list[str], seconds: float) -> Any:
        for stream, entries in self._redis.xread(dict(zip(streams, ids, strict=True))):
            yield stream.decode(), [(entry.decode(), _fields(fields)) for entry, fields in entries]

    def _polled(self, call: Call, expected: frozenset[str], seconds: float, keys: Sequence[str]) -> None:
        """None: read the windows by themselves."""
        self._redis.sadd(self._key("awaited", call.id), *expected)
        self._redis.xadd(self._key("calls"), {"call": json.dumps(dataclasses.asdict(call))})
        for worker in list(self.awake):
            worker.listen(0)

    def empty(self) -> None:
        self._redis.flushdb()
        time.sleep(0.002)  # for the ids of streams are made of real milliseconds, and must be newer than any before

    def copied(self) -> dict[bytes, bytes]:
        return {key: dumped for key in self._redis.scan_iter() if (dumped := self._redis.dump(key))}

    def restore(self, copied: dict[bytes, bytes]) -> None:
        self.empty()
        for key, dumped in copied.items():
            self._redis.restore(key, 0, dumped)
