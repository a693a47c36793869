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

from django.db import DatabaseError, close_old_connections, connection

from breaker import conf, history
from breaker.engine.stores.base import StoreError
from breaker.engine.sync import Sync
from breaker.registry import registry

log = logging.getLogger("breaker")

EVERY = 1.0
"""Seconds between looks."""
LONGEST_PAUSE = 30.0
"""Seconds between looks while the database is away."""
AT_MOST_EVERY = 0.5
"""Seconds between the looks that readers ask for."""


class Recorder:
    def __init__(self) -> None:
        self._make_locks()
        self._thread: threading.Thread | None = None
        self._away = False

    def _make_locks(self) -> None:
        self._starting = threading.Lock()
        self._reading = threading.Lock()
        self._read_at = float("-inf")

    def after_fork(self) -> None:
        self._make_locks()
        self._thread = None

    def start(self) -> None:
        """Run the thread, if history is wanted and it does not run yet."""
        if not conf.keeps_history():
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="breaker-history", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = EVERY
        while not registry.sync.closed:
            time.sleep(pause)
            try:
                close_old_connections()
                record(registry.sync)
                pause = EVERY
                if self._away:
                    self._away = False
                    log.warning("Breaker history is stored again")
            except StoreError:
                pass  # the beat says so
            except DatabaseError as error:
                pause = min(2 * pause, LONGEST_PAUSE)
                connection.close()
                if not self._away:
                    self._away = True
                    log.warning("Breaker history waits for the database (%s)", type(error).__name__)
            except Exception:
                log.exception("breaker history failed")
                pause = LONGEST_PAUSE
            finally:
                close_old_connections()

    def catch_up(self) -> None:
        """Store what there is now, the minute that runs too, for somebody who is about to read it."""
        with self._reading:
            if not conf.keeps_history() or time.monotonic() - self._read_at < AT_MOST_EVERY:
                return
            sync = registry.sync
            if sync.shared is not None and (sync.sharing or not sync.started):
                try:
                    if sync.sharing:
                        sync.flush()
                    now = sync.shared.load([]).now
                    history.store_events(sync.shared)
                    history.store_minutes(sync.shared, now, running=True)
                except StoreError:
                    pass  # what is stored is what there is to read
            _record_own(sync, running=True)
            self._read_at = time.monotonic()


def record(sync: Sync) -> None:
    """One look: store what there is, if it is this process's turn. Raises DatabaseError and StoreError."""
    if sync.shared is not None and sync.sharing and sync.shared.claim("history", milliseconds=int(EVERY * 900)):
        history.store_events(sync.shared)
        history.store_minutes(sync.shared, sync.now())
        _tidy(sync.now())
    _record_own(sync)
    if sync.shared is None:
        _tidy(sync.now())


def _record_own(sync: Sync, *, running: bool = False) -> None:
    """What this process did by itself."""
    history.store_events(sync.local, alone=sync.shared is not None)
    if sync.shared is None:
        if running:
            sync.link.drain()
            sync.link.keep()
        history.store_minutes(sync.local, sync.now(), running=running)


def _tidy(now: int) -> None:
    history.roll_up(now)
    history.prune(now)


recorder = Recorder()
os.register_at_fork(after_in_child=recorder.after_fork)
