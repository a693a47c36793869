"""The recorder: a thread of each process that stores history; one process of the cluster at a time does it.

Every second one process claims the next. One that dies leaves the work to any other a second later, and what it was at
is done again: nothing is lost as long as the shared store keeps it (10,000 events, two hours of minutes). While the
shared store is away, each process stores what it did by itself.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from django.db import Error as DatabaseFailure
from django.db import close_old_connections, connection, transaction

from breaker import conf, history
from breaker.engine.events import complain
from breaker.engine.stores.base import StoreError
from breaker.engine.sync import Sync
from breaker.registry import registry

log = logging.getLogger("breaker")

EVERY = 1.0
"""Seconds between looks."""
LONGEST_PAUSE = 30.0
"""Seconds between looks while the database is away."""
AT_MOST_EVERY = 0.5
"""Seconds from the beginning of a look that a reader asked for, in which the next readers ask for none."""
PATIENCE = 1.0
"""Seconds that a reader waits for a look; then what is stored must do, lest a database that hangs take all threads."""


class Recorder:
    def __init__(self) -> None:
        self._make_locks()
        self._waits_for = ""
        self._may_tidy = False

    def _make_locks(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._turn = threading.Condition()
        self._asked = self._looked = 0
        self._looked_at = float("-inf")

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

        By the thread, on a connection of its own: a reader's transaction may be rolled back. Without the thread it is
        left out in one: the shared store would hear that it is stored, and forget it.
        """
        if not conf.keeps_history():
            return
        with self._turn:
            if time.monotonic() - self._looked_at < AT_MOST_EVERY:
                return
            self._asked += 1
            mine = self._asked
            if self._thread is not None and self._thread.is_alive():
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._looked >= mine, timeout=PATIENCE)
                return
        if not _in_transaction():
            self._look(asked=True)  # a command's process, which guards nothing

    def _run(self) -> None:
        pause = EVERY
        while not registry.sync.closed:
            try:
                pause = EVERY if self._round(pause) else min(2 * pause, LONGEST_PAUSE)
            except BaseException:  # the thread must live, and not spin
                complain("breaker history failed")
                time.sleep(EVERY)

    def _round(self, pause: float) -> bool:
        """Wait until it is time, store, tell who waits for it, and only then tidy up; whether it went well."""
        with self._turn:
            self._turn.wait_for(lambda: self._asked > self._looked, timeout=pause)
            asked = self._asked
        try:
            close_old_connections()
            looked = self._look(asked=asked > self._looked)
            self._tell_readers(asked)
            return looked and self._tidy()
        finally:
            self._tell_readers(asked)
            close_old_connections()

    def _tell_readers(self, asked: int) -> None:
        with self._turn:
            self._looked = asked
            self._turn.notify_all()

    def _look(self, *, asked: bool) -> bool:
        """Whether it went well; who reads or waits is told by what is stored."""
        began = time.monotonic()
        try:
            self._may_tidy = record(registry.sync, asked=asked)
        except StoreError as error:
            if registry.sync.sharing:  # else the beat says so
                self._wait_for("the shared store", error)
            return True
        except Exception as error:
            return self._failed(error)
        if self._waits_for:
            self._waits_for = ""
            log.warning("Breaker history is stored again")
        if asked:  # a routine look leaves out what a reader waits for: counts that are not pushed, the running minute
            self._looked_at = began
        return True

    def _tidy(self) -> bool:
        """Whether it went well, if it is this process's turn."""
        try:
            if self._may_tidy:
                self._may_tidy = False
                tidy(registry.sync.now())
        except Exception as error:
            return self._failed(error)
        return True

    def _failed(self, error: Exception) -> bool:
        if isinstance(error, DatabaseFailure):
            connection.close()
            self._wait_for("the database", error)
        else:
            log.error("breaker history failed", exc_info=error)
        return False

    def _wait_for(self, what: str, error: Exception) -> None:
        if self._waits_for != what:
            self._waits_for = what
            log.warning("Breaker history waits for %s (%s)", what, type(error).__name__)


def record(sync: Sync, *, asked: bool = False) -> bool:
    """One look: store what there is, if it is this process's turn, or a reader has asked for it.

    Whether it is this process's turn to tidy up. Raises StoreError and the database's errors.
    """
    shared = sync.shared
    turn = shared is None
    if shared is not None and (sync.sharing or (asked and not sync.started)):
        turn = sync.sharing and shared.claim("history", milliseconds=int(EVERY * 900))
        if asked and sync.sharing:
            sync.flush()
        if turn or asked:
            history.store_events(shared)
            now = sync.now() if sync.sharing else shared.load([]).now  # a command has not learnt the shared clock
            history.store_minutes(shared, now, running=asked)
    _record_own(sync, running=asked)
    return turn


def _record_own(sync: Sync, *, running: bool = False) -> None:
    """What this process did by itself."""
    history.store_events(sync.local, alone=sync.shared is not None)
    if sync.shared is None:
        if running:
            sync.link.drain()
            sync.link.keep()
        history.store_minutes(sync.local, sync.now(), running=running)


def tidy(now: int) -> None:
    """Sum hours that have ended, and drop what is old. Takes a while: no reader waits for it."""
    history.roll_up(now)
    history.prune(min(now, round(time.time() * 1000)))  # what a clock set ahead drops comes never back


def _in_transaction() -> bool:
    """Of ours: Django counts not those that its tests run in."""
    try:
        with transaction.atomic(durable=True):
            return False
    except RuntimeError:
        return True
    except DatabaseFailure:
        return False  # it is away, which the look will say


recorder = Recorder()
os.register_at_fork(after_in_child=recorder.after_fork)
