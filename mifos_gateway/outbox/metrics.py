"""How much waits in the outbox, and since when, for `GET /metrics`. docs/metrics.md has the table."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from django.db import connection
from django.db.models import Count, Q
from prometheus_client.metrics_core import Metric

from breaker.metrics import Labels, family, sample
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import clock, desk, rules
from mifos_gateway.outbox.turnstile import turnstile

PATIENCE = 0.5
"""Seconds that a scrape waits for the database; then it goes without these."""

KEPT = 60.0
"""Seconds for which the last reading is told again, to who asks beside another or while there is no answer."""

Counted = tuple[dict[str, int], float, int]
"""How many by status; how old the oldest is that waits, in seconds; how many orders are blocked."""


SEEN = Q(status=DeferredRequest.Status.UNKNOWN, released_at__isnull=False)
"""Somebody has looked, and let those behind it go on: nothing to be woken for."""


class OutboxCollector:
    """Tells nothing while nothing may be deferred and nothing is there, nor while the database is away."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._last: Counted | None = None
        self._last_at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        found = self._read()
        if found is None:
            return
        by_status, age, blocked = found
        name = "gateway_deferred_requests"
        samples = [
            sample(name, Labels(status=status), by_status.get(status, 0)) for status in DeferredRequest.Status.values
        ]
        yield family(name, "gauge", "Deferred requests in the table", samples)
        name = "gateway_deferred_oldest_age_seconds"
        yield family(name, "gauge", "Age of the oldest that waits; 0 without one", [sample(name, Labels(), age)])
        name = "gateway_deferred_blocked_orders"
        yield family(name, "gauge", "Orders that a rejected or unknown one holds up", [sample(name, Labels(), blocked)])

    def _read(self) -> Counted | None:
        """By a thread of its own, for a database that hangs must not hold up a scrape; one at a time.

        Not through the doors' turnstile: what fails here says nothing of their connections.
        """
        if not turnstile.knows_it_away and self._asking.acquire(blocking=False):
            try:
                thread = threading.Thread(target=self._ask, name="outbox-metrics", daemon=True)
                thread.start()
            except RuntimeError:  # no more threads
                self._asking.release()
            else:
                thread.join(PATIENCE)
        return self._last if time.monotonic() - self._last_at < KEPT else None

    def _ask(self) -> None:
        try:
            with contextlib.suppress(Exception):  # whatever it is, the other metrics are told
                self._last, self._last_at = counted(), time.monotonic()
        finally:
            connection.close()
            self._asking.release()


def counted() -> Counted | None:
    """None: nothing is there, and no route is named for which there could be. Raises the database's errors."""
    rows = desk.of_namespace().exclude(SEEN).order_by().values("status").annotate(count=Count("pk"))
    by_status = {row["status"]: row["count"] for row in rows}
    if not by_status and not rules.any_named():
        return None
    backlog = desk.backlog()
    age = (clock.now() - backlog.oldest).total_seconds() if backlog.oldest else 0.0
    return by_status, max(0.0, age), backlog.blocked
