"""Stores that the workers of a schedule share: they can be emptied, copied, and put back to what they were."""

from __future__ import annotations

import copy
from typing import Any

from breaker.engine.machine import newborn
from breaker.engine.stores.base import Call
from breaker.engine.stores.memory import MemoryStore
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
    """A call for counts reaches at once who is awake; nobody waits in real time."""

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
