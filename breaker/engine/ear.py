"""The ear: hears the shared store's news in a thread of its own, so that no push of counts stands in their way."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from breaker.engine.events import complain
from breaker.engine.haste import haste
from breaker.engine.stores.base import Call, StoreError

if TYPE_CHECKING:
    from breaker.engine.sync import Sync

STAY = 0.05
"""Seconds of haste after a call for counts."""
SLICE = 0.25
"""Seconds after which a waiting ear looks whether its store still holds."""


class Ear:
    """Follows the stream of one process's shared store from where it is set."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._lock = threading.RLock()
        self._cursor = ""
        self._turn = self._asked_in = 0
        """How often the ear was set: what was heard in a former turn comes from a store that holds no more."""
        self.calls: deque[Call] = deque(maxlen=100)
        """Calls for counts that wait to be answered; nobody waits for the oldest any more."""
        self._expecting = False
        """Somebody has called for counts, so a transition may follow at once."""
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        if not self.alive:
            thread = threading.Thread(target=self._run, name="breaker-ear", daemon=True)
            thread.start()
            self._thread = thread

    def set(self, cursor: str) -> None:
        """Listen from here on. Whoever holds what `hear` takes must not call this."""
        with self._lock:
            self._cursor = cursor
            self._turn += 1

    def listen(self, seconds: float) -> None:
        """Take the news that come within so many seconds. Raises StoreError."""
        assert self._sync.shared is not None
        with self._lock:
            turn, cursor = self._turn, self._cursor
        if turn != self._asked_in:  # the question may be open at a server that no longer holds
            self._sync.shared.hang_up()
            self._asked_in = turn
        expecting, self._expecting = self._expecting, False
        with haste() if expecting else contextlib.nullcontext():
            heard = self._sync.shared.listen(cursor, seconds=min(seconds, STAY) if expecting else seconds)
        with self._lock:
            if turn != self._turn:
                return
            self._cursor = heard.cursor
            self._sync.hear(heard.changed)
        if calls := [call for call in heard.calls if call.process != self._sync.process]:
            self.calls.extend(calls)
            self._expecting = True
            self._sync.answer_soon()

    def _run(self) -> None:
        while not self._sync.closed:
            try:
                if self._sync.sharing:
                    self.listen(SLICE)
                else:
                    self._sync.joined.wait(SLICE)
            except StoreError as error:
                self._sync.lose(str(error))
            except BaseException:  # the thread must live, and not spin
                complain("breaker ear failed")
                time.sleep(SLICE)
