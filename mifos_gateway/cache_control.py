"""What a caller says in `Cache-Control` (RFC 9111, 5.2.1; RFC 5861, 4) of an answer that was kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
        """What cannot be read is taken as its strictest: an answer too many is asked of MIFOS then."""
        given = {name.lower(): quoted or plain for name, quoted, plain in _DIRECTIVE.findall(value)}
        return cls(
            no_store="no-store" in given,
            no_cache="no-cache" in given,
            only_if_cached="only-if-cached" in given,
            max_age=_seconds(given, "max-age"),
            max_stale=_most(_seconds(given, "max-stale", unsaid=inf), _seconds(given, "stale-if-error")),
            min_fresh=_seconds(given, "min-fresh") or 0,
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
        return min(bound, (self.max_age or 0) + (self.max_stale or 0))


def _seconds(given: Mapping[str, str], name: str, *, unsaid: float = 0) -> float | None:
    if name not in given:
        return None
    if not given[name]:
        return unsaid
    return min(int(given[name]), 2**31) if re.fullmatch(r"[0-9]{1,20}", given[name]) else 0


def _most(*given: float | None) -> float | None:
    return max((one for one in given if one is not None), default=None)


UNSAID = CacheControl()
