"""The recorder: a thread of each process that stores history; one process of the cluster at a time does it.

Every second one process claims the next. One that dies leaves the work to any other a second later, and what it was at
is done again: nothing is lost as long as the shared store keeps it (100,000 events, two hours of minutes). While the
shared store is away, each process stores what it did by itself.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from django.db import Error as DatabaseFailure
from django.db import close_old_connections, connection, transaction

from breaker import conf, history
from breaker.engine.events import complain
from breaker.engine.stores.base import Store, StoreError
from breaker.engine.sync import Sync
from breaker.registry import registry

log = logging.getLogger("breaker")

EVERY = 1.0
"""Seconds between looks."""
LONGEST_PAUSE = 30.0
"""Seconds between looks while the database is away."""
AT_MOST_EVERY = 0.5
"""Seconds between the looks that readers ask the thread for."""
PATIENCE = 1.0
"""Seconds that a reader waits for a look; then what is stored must do, lest a database that hangs take all threads."""


class Recorder:
    def __init__(self) -> None:
        self._make_locks()
        self._waits_for = ""
        self._pause = EVERY
        self._tidies = self._untidy = False

    def _make_locks(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._turn = threading.Condition()
        self._asked = self._looked = 0
        self._caught_up_at = float("-inf")
        """When the last look began that a reader had asked for and that went well. No other will do: a routine one
        stores neither what is unsent nor the minute that runs."""

    def after_fork(self) -> None:
        self._make_locks()

    def start(self) -> None:
        """Run the thread, if history is wanted and it does not run yet."""
        if not conf.keeps_history():
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="breaker-history", daemon=True)
                self._thread.start()

    def catch_up(self) -> None:
        """Have stored what there is now, the minute that runs too, for somebody who is about to read it.

        By the thread, on a connection of its own: a reader's transaction may be rolled back. Without a thread nothing
        is stored in one.
        """
        if not conf.keeps_history():
            return
        with self._turn:
            if time.monotonic() - self._caught_up_at < AT_MOST_EVERY:
                return
            self._asked += 1
            mine = self._asked
            if self._thread is not None and self._thread.is_alive():
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._looked >= mine, timeout=PATIENCE)
                return
        if not _may_be_rolled_back():
            self._look(asked=True)  # a command's process, which guards nothing

    def _run(self) -> None:
        while not registry.sync.closed:
            try:
                self._take_turn()
            except BaseException:  # the thread must live, and not spin
                complain("breaker history failed")
                time.sleep(EVERY)

    def _take_turn(self) -> None:
        """Wait until a look is due, look, and tell the readers."""
        with self._turn:
            self._turn.wait_for(lambda: self._asked > self._looked, timeout=self._pause)
            asked, is_asked = self._asked, self._asked > self._looked
        began, went_well = time.monotonic(), False
        try:
            close_old_connections()
            went_well = self._look(asked=is_asked)
        finally:
            with self._turn:
                self._looked = asked
                if is_asked and went_well:
                    self._caught_up_at = began
                self._turn.notify_all()
        if went_well and self._tidies:
            self._tidy()
        close_old_connections()

    def _look(self, *, asked: bool) -> bool:
        """Whether it went well; who waits is told by what is stored."""
        try:
            self._tidies = record(registry.sync, asked=asked)
        except StoreError as error:
            if registry.sync.sharing:  # else the beat says so
                self._wait_for("the shared store", error)
            self._pause = EVERY
            return False
        except DatabaseFailure as error:
            connection.close()
            self._wait_for("the database", error)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        except Exception:
            log.exception("breaker history failed")
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        self._pause = EVERY
        if self._waits_for:
            self._waits_for = ""
            log.warning("Breaker history is stored again")
        return True

    def _tidy(self) -> None:
        """No reader waits for it: sums and what is old change nothing of what there is to read."""
        try:
            tidy(registry.sync.now())
            self._untidy = False
        except DatabaseFailure as error:
            connection.close()
            if not self._untidy:
                self._untidy = True
                log.warning("Breaker history is neither summed nor pruned (%s)", type(error).__name__)

    def _wait_for(self, what: str, error: Exception) -> None:
        if self._waits_for != what:
            self._waits_for = what
            log.warning("Breaker history waits for %s (%s)", what, type(error).__name__)


def _may_be_rolled_back() -> bool:
    """Whether this is somebody's transaction: Redis is told at once what is stored in it, and gives it to nobody again.
    (Django knows a test case's own by `durable`.)"""
    if not connection.in_atomic_block:
        return False
    try:
        with transaction.atomic(durable=True):
            return False
    except RuntimeError:
        return True


def record(sync: Sync, *, asked: bool = False) -> bool:
    """One look: store what there is, if it is this process's turn, or a reader has asked for it.

    Whether it is its turn, and so its part to tidy too.
    Raises StoreError and the database's errors.
    """
    shared = sync.shared
    turn = shared is None
    if shared is not None and (sync.sharing or (asked and not sync.started)):
        turn = sync.sharing and shared.claim("history", milliseconds=int(EVERY * 900))
        if turn or asked:
            _persist(lambda: _record_shared(sync, shared, asked=asked))
    _record_own(sync, running=asked)
    return turn


def _persist(work: Callable[[], None]) -> None:
    """A look is ten questions and more, each under a call's short deadline: one answer may be late, for no call waits.
    What is stored by then is not done again."""
    try:
        work()
    except StoreError:
        work()


def _record_shared(sync: Sync, shared: Store, *, asked: bool) -> None:
    if asked and sync.sharing:
        sync.flush()
    history.store_events(shared)
    now = sync.now() if sync.sharing else shared.load([]).now  # a command has not learnt the shared clock
    history.store_minutes(shared, now, running=asked)


def _record_own(sync: Sync, *, running: bool = False) -> None:
    """What this process did by itself."""
    history.store_events(sync.local, alone=sync.shared is not None)
    if sync.shared is None:
        if running:
            sync.link.drain()
            sync.link.keep()
        history.store_minutes(sync.local, sync.now(), running=running)


def tidy(now: int) -> None:
    """What is dropped is gone: a shared clock that runs ahead of this machine's must not age it by itself."""
    history.roll_up(now)
    history.prune(min(now, int(time.time() * 1000)))


recorder = Recorder()
os.register_at_fork(after_in_child=recorder.after_fork)
