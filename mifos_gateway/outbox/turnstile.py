"""The way of the doors' threads to the database: few at a time, and none while it is away.

A database that hangs would else take all threads of a worker, by writes that have a key or an order.
"""

import os
import threading
import time
from types import TracebackType

from django.db import DatabaseError, InterfaceError, OperationalError

PLACES = 8
PATIENCE = 0.5
"""Seconds that one waits for a place."""
ASK_AGAIN_AFTER = 1.0
DATABASE_AWAY = (DatabaseError, InterfaceError)


class Turnstile:
    """Raises OperationalError at the entrance, while the database is known to be away or all places are taken."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """For a forked child: who is inside is its parent's."""
        self._places = threading.BoundedSemaphore(PLACES)
        self._again_at = 0.0

    @property
    def knows_it_away(self) -> bool:
        return time.monotonic() < self._again_at

    def __enter__(self) -> None:
        if self.knows_it_away:
            raise OperationalError("the database was away a moment ago")
        if not self._places.acquire(timeout=PATIENCE):
            raise OperationalError("the database keeps all who ask it waiting")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._places.release()
        if isinstance(error, OperationalError | InterfaceError):
            self._again_at = time.monotonic() + ASK_AGAIN_AFTER


turnstile = Turnstile()
os.register_at_fork(after_in_child=turnstile.renew)
