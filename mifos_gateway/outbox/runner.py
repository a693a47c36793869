"""The loop that sends what is due: `manage.py deliver_deferred`, or a task of Celery's.

Any number of them, on any number of hosts with PostgreSQL: the table says what is whose.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from breaker.registry import registry
from mifos_gateway import conf, database, guard
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import clock, delivery, desk
from mifos_gateway.outbox.delivery import Attempt, Leased
from mifos_gateway.outbox.outcomes import Verdict
from mifos_gateway.outbox.pace import Pace

log = logging.getLogger("gateway")

IDLE = 0.5
"""Seconds between two looks at a table in which nothing is due."""
TIDY = 5.0
PURGE = 3600.0
_LONGEST_PAUSE = 30.0
_SETTLE_PAUSE = 0.5
_NOBODYS_FAULT = ("late", "unreadable", "locked")
_WRONG = ("not_sent", "failed", "timeout", "throttled", "busy", "credentials_rejected")


class Runner:
    """One process's; `run` returns when `stop` was called, or with `once` when nothing is due.

    No more `threads` than the bulkhead has places, which would turn the others away.
    """

    def __init__(self, *, threads: int | None = None, rate: float | None = None) -> None:
        settings = conf.gateway()
        self.threads = min(threads or settings.deferred_threads, settings.bulkhead)
        self.rate = rate or settings.deferred_rate
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[Future[Any]] = set()
        self._pace = Pace(self.rate, time.monotonic())
        self._shut: dict[str, float] = {}  # breakers that reject, until when
        self._were_open: set[str] = set()
        self._held_back = False  # by the pace, at the last look
        self._tidies_at = self._purges_at = 0.0

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def run(self, *, once: bool = False, seconds: float | None = None) -> int:
        """How many have ended. `once`: what is due now and can be sent. `seconds`: no longer than that."""
        registry.start()
        ends_at = None if seconds is None else time.monotonic() + seconds
        self.ended, pause = 0, IDLE
        with ThreadPoolExecutor(self.threads, thread_name_prefix="deliver") as pool:
            while True:
                self._wake.clear()
                if self._stopping.is_set() or (ends_at is not None and time.monotonic() >= ends_at):
                    break
                try:
                    begun = self._look(pool)
                    if once and not begun and not self._busy and not self._is_due():
                        break
                    pause = min(IDLE, 1 / self._pace.rate) if self._held_back else IDLE
                except (DatabaseError, InterfaceError) as error:
                    log.warning("Deferred requests wait for the database (%s)", type(error).__name__)
                    connections.close_all()
                    pause = min(2 * max(pause, IDLE), _LONGEST_PAUSE)
                self._wake.wait(pause if ends_at is None else max(0.0, min(pause, ends_at - time.monotonic())))
        database.release()
        return self.ended

    # -- one look ------------------------------------------------------------------------------------------------------

    def _look(self, pool: ThreadPoolExecutor) -> int:
        moment = time.monotonic()
        if moment >= self._tidies_at:
            self._tidies_at = moment + TIDY
            now = clock.now()
            delivery.recover(now)
            delivery.expire(now)
            if moment >= self._purges_at:
                self._purges_at = moment + PURGE
                delivery.warn_of_strangers()
                delivery.expire(now, everywhere=True)
                desk.purge(now)
        closed, wary = self._breakers(moment)
        free, allowed = self.threads - len(self._busy), self._pace.allowed(moment)
        limit = min(free, allowed)
        self._held_back = allowed < free
        if limit < 1:
            return 0
        begun = self._begin_some(pool, limit, closed)
        for name in wary:  # one each: the trial, which all of them would be rejected beside
            if begun < limit:
                begun += self._begin_some(pool, 1, [name])
                self._shut[name] = moment + 1
        self._held_back &= begun == limit  # else there was no more
        return begun

    def _begin_some(self, pool: ThreadPoolExecutor, limit: int, breakers: list[str]) -> int:
        """At once: a lease that nobody uses would hold them up until it has run out."""
        leased = delivery.lease(clock.now(), limit=limit, breakers=breakers)
        self._pace.took(len(leased))
        for one in leased:
            self._begin(pool, one)
        return len(leased)

    def _breakers(self, moment: float) -> tuple[list[str], list[str]]:
        """Those whose calls may go out, and those that are due to let one through.

        When one has closed, whoever's call it was that closed it, MIFOS has just come back.
        """
        closed, wary, were_open = [], [], self._were_open
        self._were_open = set()
        for name in guard.NAMES.values():
            circuit = registry.circuits[name]
            if circuit.current_state == "closed":
                closed.append(name)
                self._shut.pop(name, None)
                continue
            self._were_open.add(name)
            if circuit.retry_after > 1:
                self._shut.pop(name, None)
            elif self._shut.setdefault(name, moment + 1) <= moment:  # for the rest of the circuit's last second
                wary.append(name)
        if were_open - self._were_open:
            with self._lock:
                self._pace.went_wrong(moment)
        return closed, wary

    def _begin(self, pool: ThreadPoolExecutor, leased: Leased) -> None:
        future = pool.submit(self._deliver, leased)
        with self._lock:
            self._busy.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._busy.discard(future)
        self._wake.set()

    def _deliver(self, leased: Leased) -> None:
        try:
            made = delivery.attempt(leased)
            _settle(leased, made)
            self._learn(leased, made.verdict)
        except Exception:
            # Its lease runs out, and it is sent again with the same key.
            log.exception("Deferred request %s could not be dealt with", leased.row.uid)
        finally:
            connections.close_all()

    def _learn(self, leased: Leased, verdict: Verdict) -> None:
        moment = time.monotonic()
        with self._lock:
            if verdict.outcome in _WRONG:
                self._pace.went_wrong(moment)
            elif verdict.outcome not in _NOBODYS_FAULT:
                self._pace.went_well(moment)
            if verdict.outcome == "not_sent":
                self._shut[leased.row.breaker] = moment + 1
            if verdict.status != DeferredRequest.Status.QUEUED:
                self.ended += 1

    def _is_due(self) -> bool:
        closed, wary = self._breakers(time.monotonic())
        return any(rows.exists() for rows in delivery.sendable(clock.now(), [*closed, *wary]))


def _settle(leased: Leased, made: Attempt) -> None:
    """Record it, while the lease is ours: what MIFOS has answered is worth some patience with the database."""
    while True:
        try:
            delivery.settle(leased, made)
            return
        except (DatabaseError, InterfaceError):
            connections.close_all()
            if time.monotonic() > leased.until - _SETTLE_PAUSE:
                raise
            time.sleep(_SETTLE_PAUSE)
