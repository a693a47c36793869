"""The courier: a thread that carries what a call has to tell at once, so that the call's own wait has an end.

A look-up, a connection or a store that hangs then holds the courier, never the call, and an event loop never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Courier:
    """Runs what it is given, in order, in one daemon thread; with `thread` False at once in the caller's."""

    def __init__(
        self,
        *,
        thread: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
        bind: Callable[[Callable[[], Any]], Callable[[], Any]] = lambda work: work,
    ) -> None:
        self._has_thread = thread
        self._bind = bind
        """Makes of a piece of work one that the thread does as its giver would: in the trace of a call, say."""
        self._monotonic = monotonic
        self._began_at: float | None = None
        self._late: Future[Any] | None = None
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def busy_for(self) -> float:
        """Seconds that the present job has taken."""
        began_at = self._began_at
        return 0.0 if began_at is None else self._monotonic() - began_at

    @property
    def late(self) -> bool:
        """Somebody waited in vain for a job that has not ended yet: nobody else should."""
        return self._late is not None and not self._late.done()

    def miss(self, future: Future[Any]) -> None:
        """Somebody waited for this in vain."""
        self._late = future

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Time that the present job spends on others' code: it does not count in `busy_for`."""
        if threading.current_thread() is not self._thread:
            yield
            return
        self._began_at = None
        try:
            yield
        finally:
            self._began_at = self._monotonic()

    @property
    def alive(self) -> bool:
        return not self._has_thread or (self._thread is not None and self._thread.is_alive())

    def start(self) -> None:
        if not self.alive:
            self._thread = threading.Thread(target=self._run, name="breaker-courier", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._jobs.put(None)

    def carry(self, work: Callable[[], T], future: Future[T] | None = None) -> Future[T]:
        """A future of what `work` answers; `future` where the caller has made it already."""
        future = future or Future()
        if self._has_thread:
            self._jobs.put((future, self._bind(work)))
        else:
            _do(future, work)
        return future

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._began_at = self._monotonic()
            try:
                _do(*job)
            except BaseException as error:  # a listener's SystemExit, say, must not end the thread
                job[0].set_exception(RuntimeError(f"{type(error).__name__} in the courier"))
            self._began_at = None


def _do(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)


def done(value: T) -> Future[T]:
    """A future that has its value already."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


async def arrival(future: Future[Any], *, seconds: float) -> None:
    """Wait in an event loop until the future is done, at most so long."""
    if future.done():
        return
    arrived, loop = asyncio.Event(), asyncio.get_running_loop()

    def tell(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(arrived.set)

    future.add_done_callback(tell)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(arrived.wait(), seconds)
