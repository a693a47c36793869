"""Is this process alive, and should it get traffic? Both answer quickly, whatever hangs behind them.

A gateway whose MIFOS, Redis or database is away still serves: it rejects at once, guards alone, and knows its consumers
from memory. So readiness stays 200 and says `degraded`; were it 503, every host would leave the rotation at once, and
callers would get a proxy's error instead of `Retry-After`. Only when no token can be known any more is it 503.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from breaker import conf as breaker_conf
from breaker import queries
from breaker.views import AlwaysJson
from mifos_gateway import openapi
from mifos_gateway.models import Token
from mifos_gateway.token_memory import KEPT_WHILE_AWAY

PATIENCE = 0.5
KNOWN_FOR = 1.0


class PatientCheck:
    """A check that may hang: run by one thread at a time, every KNOWN_FOR seconds at most, and waited for a moment."""

    def __init__(self, check: Callable[[], None], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._monotonic = monotonic
        self._running: threading.Thread | None = None
        self._passed: bool | None = None
        self._known_at = float("-inf")
        self._failing_since: float | None = None

    def passes(self, *, patience: float = PATIENCE) -> bool:
        if self._monotonic() - self._known_at < KNOWN_FOR and self._passed is not None:
            return self._passed
        thread = self._running
        if thread is None or not thread.is_alive():  # also after a fork, where the parent's thread is not
            self._passed = None
            thread = self._running = threading.Thread(target=self._run, name="readiness", daemon=True)
            thread.start()
        thread.join(patience)
        if not self._passed:
            self._failing_since = self._failing_since or self._monotonic()
        return bool(self._passed)

    def failing_for(self) -> float:
        return 0.0 if self._failing_since is None else self._monotonic() - self._failing_since

    def _run(self) -> None:
        try:
            self._check()
        except Exception:
            self._passed = False
        else:
            self._passed, self._failing_since = True, None
        self._known_at = self._monotonic()


def _ask_database() -> None:
    try:
        Token.objects.exists()  # rather than SELECT 1: a database without our tables serves nobody
    finally:
        connection.close()  # the thread ends, so nobody else would


database = PatientCheck(_ask_database)


@dataclass(frozen=True, slots=True)
class Readiness:
    status: str  # ok, degraded or unavailable
    checks: dict[str, str]

    @property
    def http_status(self) -> int:
        return 503 if self.status == "unavailable" else 200


def readiness() -> Readiness:
    checks = {"database": "ok" if database.passes() else "away", **_breaker_checks()}
    if checks["database"] == "away" and database.failing_for() > KEPT_WHILE_AWAY:
        return Readiness("unavailable", checks)
    return Readiness("ok" if set(checks.values()) <= {"ok", "not configured"} else "degraded", checks)


def _breaker_checks() -> dict[str, str]:
    """Redis and MIFOS as the breakers see them; "away" where they see nothing at all."""
    try:
        status = queries.status()
    except Exception:
        return {"redis": "away", "mifos": "unknown"}
    is_open = any(entry.state == "OPEN" for entry in status.entries if entry.labels.service == "MIFOS")
    redis = "ok" if status.shared else "away" if breaker_conf.redis_connector() else "not configured"
    return {"redis": redis, "mifos": "failing" if is_open else "ok"}


class ProbeView(APIView):
    authentication_classes = ()
    permission_classes = ()
    content_negotiation_class = AlwaysJson


@openapi.livez
class LiveView(ProbeView):
    """Whether this process answers; asks nothing of anybody."""

    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


@openapi.readyz
class ReadyView(ProbeView):
    """Whether this process should get traffic."""

    def get(self, request: Request) -> Response:
        found = readiness()
        data: dict[str, Any] = {"status": found.status, "checks": found.checks}
        return Response(data, status=found.http_status)
