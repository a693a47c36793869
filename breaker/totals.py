"""Running totals as metrics tell them: the cluster's, and never less than what was told before.

The shared store counts them. What is told is written to the database just after, so that a store that comes
back empty, or older, is given back what was told before anybody tells of it again. Until then its totals are not told
at all: a counter that is missing for a while is no matter, one that goes back is counted double.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from django.db import Error as DatabaseFailure
from django.db import connection, transaction

from breaker import conf
from breaker.engine.events import complain
from breaker.engine.stores.base import Store, StoreError
from breaker.engine.sync import Sync
from breaker.engine.window import Tally
from breaker.models import RunningTotals
from breaker.registry import registry

log = logging.getLogger("breaker")

PATIENCE = 0.5
"""Seconds that who asks waits for the database, once for each name that is new; then that name is not told."""
AFTER = 0.25
"""Seconds after which what was told is stored: not while the answer is still being written."""
ROWS_AT_ONCE = 500


class _Worker:
    """Does in a thread, one at a time, what the database is needed for, since that may hang."""

    def __init__(self, work: Callable[[set[str]], None], *, after: float = 0.0) -> None:
        self._work = work
        self._after = after
        """Seconds that it waits before it begins."""
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._thread: threading.Thread | None = None
        self._is_well = True

    def ask(self, names: Iterable[str], *, patience: float = 0.0) -> None:
        """Have the work done for these; `patience`: seconds that it is waited for."""
        with self._lock:
            self._waiting.update(names)
            if registry.sync.has_threads and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="breaker-totals", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is None:
            self._turn()
        elif patience:
            thread.join(patience)

    def _run(self) -> None:
        try:
            time.sleep(self._after)
            while self._turn():
                pass
        except BaseException:
            complain("breaker totals failed")
        finally:
            connection.close()
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _turn(self) -> bool:
        """Do what waits; whether there was anything, and it went well."""
        with self._lock:
            names, self._waiting = self._waiting, set()
            if not names:
                self._thread = None  # under the lock: who comes now starts another
                return False
        try:
            self._work(names)
        except StoreError:  # the beat tells of it
            return False
        except DatabaseFailure as error:
            with self._lock:
                self._waiting |= names  # for the next time
            if self._is_well:
                self._is_well = False
                log.warning("What metrics tell is not stored (%s)", type(error).__name__)
            return False
        self._is_well = True
        return True


class Teller:
    """What this process has told, and who keeps it."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, sync: Sync | None) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._told: dict[str, Tally] = {}
        self._founder = _Worker(self._found)
        self._keeper = _Worker(self._keep, after=AFTER)

    def after_fork(self) -> None:
        self._begin(None)

    def read(self, names: Sequence[str]) -> Mapping[str, Tally]:
        """The running totals of these names, fields as breaker.engine.window has them; without those that cannot be
        told for the moment, which are all while the shared store is away."""
        sync = registry.sync
        if sync is not self._sync:
            self._begin(sync)
        if sync.shared is None:
            return _own(sync, names)
        if sync.started and not sync.sharing:
            return {}
        try:
            return self._remembered(self._read(sync.shared, names))
        except StoreError as error:
            sync.lose(str(error))
            return {}

    def _read(self, shared: Store, names: Sequence[str]) -> dict[str, Tally]:
        found = dict(shared.totals(names))
        told = self._told
        low = [name for name in names if name not in found or not _reaches(found[name], told.get(name, {}))]
        if low:
            self._founder.ask(low, patience=PATIENCE)
            found |= shared.totals(low)
        return found

    def _remembered(self, found: Mapping[str, Tally]) -> Mapping[str, Tally]:
        with self._lock:
            raised = {name: _raised(counts, self._told.get(name, {})) for name, counts in found.items()}
            new = [name for name, counts in raised.items() if self._told.get(name) != counts]
            self._told.update(raised)
        if conf.keeps_history():
            self._keeper.ask(new)  # though there be none: others may wait since the database was away
        return raised

    def _found(self, names: set[str]) -> None:
        shared = registry.sync.shared
        if shared is not None:
            kept = _kept(sorted(names))
            shared.found({name: _raised(kept.get(name, {}), self._told.get(name, {})) for name in names})

    def _keep(self, names: set[str]) -> None:
        told = sorted(names)
        for start in range(0, len(told), ROWS_AT_ONCE):
            some = told[start : start + ROWS_AT_ONCE]
            with transaction.atomic():
                kept = _kept(some, lock=True)
                rows = {name: _raised(kept.get(name, {}), self._told[name]) for name in some}
                RunningTotals.objects.bulk_create(
                    [
                        RunningTotals(namespace=conf.namespace(), name=name, counts=counts)
                        for name, counts in rows.items()
                        if counts != kept.get(name)
                    ],
                    update_conflicts=True,
                    unique_fields=("namespace", "name"),
                    update_fields=("counts", "at"),
                )


def _own(sync: Sync, names: Sequence[str]) -> Mapping[str, Tally]:
    """Without a shared store: this process's, from its beginning."""
    sync.local.found({name: {} for name in names})
    return sync.local.totals(names)


def _kept(names: Sequence[str], *, lock: bool = False) -> dict[str, Tally]:
    if not conf.keeps_history():
        return {}
    found: dict[str, Tally] = {}
    for start in range(0, len(names), ROWS_AT_ONCE):
        rows = RunningTotals.objects.filter(namespace=conf.namespace(), name__in=names[start : start + ROWS_AT_ONCE])
        if lock:
            rows = rows.select_for_update().order_by("pk")
        found |= dict(rows.values_list("name", "counts"))
    return found


def _reaches(counts: Tally, told: Tally) -> bool:
    return all(counts.get(field, 0) >= count for field, count in told.items())


def _raised(counts: Tally, told: Tally) -> Tally:
    """The greater of both, field by field: each was true once, and none has ever become less."""
    return {field: max(counts.get(field, 0), told.get(field, 0)) for field in {**counts, **told}}


teller = Teller()
read = teller.read
os.register_at_fork(after_in_child=teller.after_fork)
