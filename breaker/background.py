"""What may take its time: work that waits in a queue for a thread of its own, so that no call waits for it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from django.db import close_old_connections

from breaker.engine.events import complain

log = logging.getLogger("breaker")

Work = Callable[[], object]
ROOM = 1_000
"""Pieces of work that may wait. What comes then is left out, and the log says how many."""
AT_EXIT = 2.0
"""Seconds that an ending process gives to what waits still."""


class Background:
    """Does what it is given, in order, in one daemon thread, which begins with the first piece and again after a fork.

    The thread's database connections are looked after as a request's are: CONN_MAX_AGE holds.
    """

    def __init__(self, name: str, *, room: int = ROOM) -> None:
        self._name = name
        self._room = room
        self.after_fork()
        _ALL.add(self)

    def after_fork(self) -> None:
        """In the child: what waited is for the parent's thread to do."""
        self._turn = threading.Condition()
        self._waiting: deque[Work] = deque()
        self._busy = False
        self._left_out = 0
        self._thread: threading.Thread | None = None

    def put(self, work: Work) -> None:
        """Have it done soon; never waits. A full queue leaves it out."""
        with self._turn:
            if len(self._waiting) >= self._room:
                self._left_out += 1
                began_to = self._left_out == 1
            else:
                began_to = False
                self._waiting.append(work)
                self._start()
                self._turn.notify_all()
        if began_to:
            log.warning("%s: %d wait for one that takes its time; more are left out", self._name, self._room)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._busy = False
            self._thread = threading.Thread(target=self._run, name=f"breaker-{self._name}", daemon=True)
            self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Wait until nothing waits any more, so long at most; whether that is so."""
        with self._turn:
            return self._turn.wait_for(lambda: not (self._waiting or self._busy), timeout=seconds)

    def _run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._waiting)
                work, self._busy = self._waiting.popleft(), True
                left_out = self._left_out if len(self._waiting) <= self._room // 2 else 0
                self._left_out -= left_out
            if left_out:
                log.warning("%s: caught up; %d were left out", self._name, left_out)
            try:
                close_old_connections()
                try:
                    work()
                finally:
                    close_old_connections()
            except BaseException:  # the thread must live
                complain(f"breaker {self._name} failed")
            with self._turn:
                self._busy = False
                self._turn.notify_all()


_ALL: weakref.WeakSet[Background] = weakref.WeakSet()


def finish(seconds: float) -> bool:
    """Wait until nothing waits in any queue of this process, so long at most; whether that is so."""
    until = time.monotonic() + seconds
    return all(one.finish(max(0.0, until - time.monotonic())) for one in list(_ALL))


def _after_fork_in_child() -> None:
    for one in list(_ALL):
        one.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(finish, AT_EXIT)
