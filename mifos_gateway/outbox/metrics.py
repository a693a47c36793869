"""How much waits in the outbox, and since when, for `GET /metrics`. docs/metrics.md has the table."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.models import Count
from prometheus_client.metrics_core import Metric

from breaker.metrics import Labels, family, sample
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import clock, desk, rules
from mifos_gateway.outbox.turnstile import turnstile

PATIENCE = 0.5
"""Seconds that a scrape waits for the database; then it goes without these."""

Counted = tuple[dict[str, int], float, int]
"""How many by status; how old the oldest is that waits, in seconds; how many orders are blocked."""


class OutboxCollector:
    """Tells nothing while nothing may be deferred and nothing is there, nor while the database is away."""

    def __init__(self) -> None:
        self._asking = threading.Lock()

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
        """By a thread of its own, for a database that hangs must not hold up a scrape; one at a time."""
        if not self._asking.acquire(blocking=False):
            return None
        found: list[Counted | None] = []
        thread = threading.Thread(target=self._ask, args=(found,), name="outbox-metrics", daemon=True)
        thread.start()
        thread.join(PATIENCE)
        return found[0] if found else None

    def _ask(self, found: list[Any]) -> None:
        try:
            with contextlib.suppress(Exception), turnstile:  # whatever it is, the other metrics are told
                found.append(counted())
        finally:
            connection.close()
            self._asking.release()


def counted() -> Counted | None:
    """None: nothing is there, and no route is named for which there could be. Raises the database's errors."""
    rows = desk.of_namespace().order_by().values("status").annotate(count=Count("pk"))
    by_status = {row["status"]: row["count"] for row in rows}
    if not by_status and not rules.any_named():
        return None
    backlog = desk.backlog()
    age = (clock.now() - backlog.oldest).total_seconds() if backlog.oldest else 0.0
    return by_status, max(0.0, age), backlog.blocked
