"""Lost acts: what operators said of circuits that the shared store has lost is looked up where it is kept."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence

AGAIN = 5.0
"""Seconds between attempts."""

log = logging.getLogger("breaker.engine")


class LostActs:
    """Has `look_up`, given the circuits' names, apply the acts again; until that has worked.

    In a thread of its own: a database may hang.
    """

    def __init__(
        self, look_up: Callable[[Sequence[str]], None], *, monotonic: Callable[[], float], thread: bool
    ) -> None:
        self._look_up = look_up
        self._monotonic = monotonic
        self._has_thread = thread
        self._thread: threading.Thread | None = None
        self._names: set[str] = set()
        self._naming = threading.Lock()
        self._tried_at = float("-inf")

    def of(self, names: Iterable[str]) -> None:
        """The store has lost these circuits."""
        with self._naming:
            self._names |= {*names}

    def seek(self) -> None:
        """Look up what is missing, unless that is under way or was just tried."""
        now, running = self._monotonic(), self._thread is not None and self._thread.is_alive()
        if not self._names or running or now - self._tried_at < AGAIN:
            return
        self._tried_at = now
        if self._has_thread:
            self._thread = threading.Thread(target=self._try, name="breaker-look-up", daemon=True)
            self._thread.start()
        else:
            self._try()

    def _try(self) -> None:
        with self._naming:  # out before the look-up: what is lost again during it must be looked up again
            names, self._names = self._names, set()
        try:
            self._look_up(sorted(names))
        except Exception as error:
            with contextlib.suppress(Exception):
                log.warning("operators' acts could not be looked up to apply them again: %s", error)
            self.of(names)
