"""Haste: while the news of a trip travels, this process's threads take turns more often.

CPython lets a busy thread run for a switch interval before another gets its turn. Carrying a trip's news takes some ten
turns, and with eight busy threads each costs eight intervals. The interval is the whole process's, so it is short only
for the milliseconds that it takes to judge a failure or to answer who does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

TURN = 0.00005
"""Seconds that a busy thread runs meanwhile."""

_mine = threading.local()
"""`depth`: how often this thread is in haste."""
_lock = threading.Lock()
_hurrying = 0
_before = sys.getswitchinterval()


def begin() -> None:
    global _hurrying, _before
    _mine.depth = _depth() + 1
    with _lock:
        _hurrying += 1
        if _hurrying == 1:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(min(TURN, _before))


def end() -> None:
    global _hurrying
    _mine.depth = max(0, _depth() - 1)
    with _lock:
        _hurrying = max(0, _hurrying - 1)  # a child that was forked in haste is not, and ends it all the same
        if _hurrying == 0:
            sys.setswitchinterval(_before)


@contextlib.contextmanager
def haste() -> Iterator[None]:
    begin()
    try:
        yield
    finally:
        end()


@contextlib.contextmanager
def leisure() -> Iterator[None]:
    """Without this thread's haste: around others' code, which may take its time."""
    depth = _depth()
    for _ in range(depth):
        end()
    try:
        yield
    finally:
        for _ in range(depth):
            begin()


def _depth() -> int:
    return getattr(_mine, "depth", 0)


def _after_fork_in_child() -> None:
    global _lock, _mine, _hurrying
    _lock, _mine = threading.Lock(), threading.local()
    if _hurrying:
        _hurrying = 0
        sys.setswitchinterval(_before)


os.register_at_fork(after_in_child=_after_fork_in_child)
