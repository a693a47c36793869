"""What a test asks afterwards: which requests came, and which effects were done."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from .messages import Request

KEPT_REQUESTS = 20_000


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class RequestLog:
    """Every request to MIFOS as it came, faults included; `/__` control calls are none."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Forgets what came; requests that still run stay counted as running."""
        with self._lock:
            self._rows: deque[dict[str, Any]] = deque(maxlen=KEPT_REQUESTS)
            self._count = 0
            self._in_flight = getattr(self, "_in_flight", 0)
            self._peak = self._in_flight

    @contextmanager
    def running(self, request: Request) -> Iterator[dict[str, Any]]:
        """The request's row, so that what it met can be written there."""
        row: dict[str, Any] = {
            "at": now(),
            "method": request.method,
            "target": request.target,
            "user": request.username,
            "tenant": request.tenant,
            "key": request.idempotency_key,
            "requestId": request.headers.get("x-request-id"),
            "fault": None,
        }
        with self._lock:
            self._rows.append(row)
            self._count += 1
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
        try:
            yield row
        finally:
            with self._lock:
                self._in_flight -= 1

    def report(self, last: int) -> dict[str, Any]:
        with self._lock:
            rows = list(self._rows)[-last:] if last else []
            return {"count": self._count, "inFlight": self._in_flight, "peakInFlight": self._peak, "requests": rows}


class Ledger:
    """One row per effect, in the order in which they were done."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        with self._lock:
            self._rows.append({"number": len(self._rows) + 1, "at": now()} | row)

    def rows(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._rows)
