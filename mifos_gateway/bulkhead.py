"""Bound the MIFOS calls in flight, so that a hanging MIFOS cannot take every thread of a worker."""

import threading


class Bulkhead:
    """`limit` places in this process; nobody waits for one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.renew()

    def renew(self) -> None:
        """For a forked child: the calls in flight are its parent's."""
        self._places = threading.BoundedSemaphore(self.limit)

    def enter(self) -> bool:
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        self._places.release()
