"""What a caller says in `Cache-Control` (RFC 9111, 5.2.1; RFC 5861, 4) of an answer that was kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

_DIRECTIVE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:\"([^\"]*)\"|([^\s,\"]*)))?")


@dataclass(frozen=True, slots=True)
class CacheControl:
    """Ages in seconds; None: nothing was said."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    max_stale: float | None = None
    min_fresh: float = 0

    @classmethod
    def parse(cls, value: str) -> CacheControl:
        """What is said twice or cannot be read is taken as its strictest: then MIFOS is asked once too often."""
        given: dict[str, list[str]] = {}
        for name, quoted, plain in _DIRECTIVE.findall(value):
            given.setdefault(name.lower(), []).append(quoted or plain)
        stale = [_least(given.get("max-stale"), unsaid=inf), _least(given.get("stale-if-error"))]
        return cls(
            no_store="no-store" in given,
            no_cache="no-cache" in given,
            only_if_cached="only-if-cached" in given,
            max_age=_least(given.get("max-age")),
            max_stale=max((one for one in stale if one is not None), default=None),
            min_fresh=max((_seconds(one, unread=inf) for one in given.get("min-fresh", ())), default=0),
        )

    def takes_fresh(self, age: float) -> bool:
        """Whether an answer of that age will do without a call."""
        if self.no_store or self.no_cache:
            return False
        return self.max_age is not None and age + self.min_fresh <= self.max_age

    def stale_limit(self, bound: float) -> float:
        """How old an answer may be while MIFOS gives none, at most `bound`; below 0: none will do."""
        if self.no_store or self.no_cache:
            return -1
        if self.max_age is None and self.max_stale is None:
            return bound
        fresh = self.max_age - self.min_fresh if self.max_age is not None else 0
        return min(bound, fresh + (self.max_stale or 0))


def _least(values: list[str] | None, *, unsaid: float = 0) -> float | None:
    return None if values is None else min(_seconds(one, unread=0) if one else unsaid for one in values)


def _seconds(value: str, *, unread: float) -> float:
    return min(int(value), 2**31) if re.fullmatch(r"[0-9]{1,20}", value) else unread


UNSAID = CacheControl()
