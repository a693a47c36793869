"""Calls at a rate: so many a second, evenly, whatever each takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

TICK = 0.002


def paced(rate: float, ends: float) -> Iterator[None]:
    """A step whenever one is due, until `ends` on the monotonic clock; who is late makes up for it."""
    began, made = time.monotonic(), 0
    while (now := time.monotonic()) < ends:
        due = int((now - began) * rate)
        if made >= due:
            time.sleep(min(TICK, ends - now) if rate else ends - now)
        while made < due and time.monotonic() < ends:
            made += 1
            yield
