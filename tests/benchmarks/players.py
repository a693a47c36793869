"""A process of a contestant's own, that does what it is told, when it is told, and ends with whoever started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

SWITCH_INTERVAL = 0.0005
"""For every contestant, as config/gunicorn.conf.py sets it for the gateway."""
ANSWERS_WITHIN = 30.0
"""Seconds; a player that takes longer ends the run."""

Role = Callable[..., Generator[Any, Any, None]]
"""What a player does: a generator that yields answers and is sent orders; it must stand at a module's top level."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.benchmarks.contestants", "django"])


class Player:
    def __init__(self, role: Role, *args: Any) -> None:
        self._pipe, theirs = _processes.Pipe()
        # A daemon: it ends with this process, and, when this is killed, because its pipe breaks.
        self._process = _processes.Process(target=_play, args=(theirs, role, args), daemon=True)
        self._process.start()
        theirs.close()

    def tell(self, order: Any) -> None:
        self._pipe.send(order)

    def hear(self) -> Any:
        if not self._pipe.poll(ANSWERS_WITHIN):
            raise TimeoutError(f"a contestant did not answer within {ANSWERS_WITHIN:.0f} s")
        answer, error = self._pipe.recv()
        if error:
            raise RuntimeError(f"a contestant failed:\n{error}")
        return answer

    def ask(self, order: Any) -> Any:
        self.tell(order)
        return self.hear()

    def end(self) -> None:
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def playing(casts: Sequence[tuple[Any, ...]]) -> Iterator[list[Player]]:
    """Players for (role, *args), all of them ready."""
    players: list[Player] = []
    try:
        for role, *args in casts:
            players.append(Player(role, *args))
        for player in players:
            player.hear()
        yield players
    finally:
        for player in players:
            player.end()


def undertaker(pid: int) -> Generator[Any, Any, None]:
    """A role: ends a process that has no such pipe when the run ends, even when the run is killed."""
    try:
        while True:
            yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _play(pipe: Connection, role: Role, args: Sequence[Any]) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):  # logs are written, and not mixed with the table
        os.dup2(nowhere, stream.fileno())
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            with contextlib.closing(role(*args)) as acting:
                answer = next(acting)
                while True:
                    pipe.send((answer, ""))
                    try:
                        order = pipe.recv()
                    except (EOFError, OSError):
                        return
                    answer = acting.send(order)
        except Exception:
            pipe.send((None, traceback.format_exc()))
