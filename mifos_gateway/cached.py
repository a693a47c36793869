"""Cached reads: what MIFOS answered before, while it gives no answer; stale-if-error of RFC 5861.

MIFOS's own `Cache-Control` is not obeyed: Spring Security writes `no-store` on every answer of Fineract, so that naming
a route is the operator's word that its answers may be kept. The caller's is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from breaker.fallbacks import Fallback
from mifos_gateway.kept import LONGEST, Visit, answers
from mifos_gateway.refusals import NotCached

if TYPE_CHECKING:
    import requests

    from mifos_gateway.guard import Call

MIFOS = "mifos"
"""The provenance of an answer that is MIFOS's own, and of now."""
HIT = "mifos-gateway; hit"
"""`Cache-Status` of RFC 9211."""


class Cached(Fallback):
    """Keeps MIFOS's good answers to a GET for `max_stale` seconds, and gives them while MIFOS gives none.

    0 is off. One that is younger than the caller's own `Cache-Control: max-age` is given without a call.
    """

    provenance = "cache"
    reads_only = True

    def __init__(self, max_stale: float = 0, *, failures: bool = True) -> None:
        if isinstance(max_stale, bool) or not isinstance(max_stale, int | float) or not 0 <= max_stale <= LONGEST:
            raise ValueError(f"max_stale={max_stale!r}: seconds from 0 (off) to {LONGEST} are needed")
        self.max_stale = max_stale
        self.failures = failures

    def __repr__(self) -> str:
        return f"Cached(max_stale={self.max_stale:g})"

    def answer(self, call: Any, error: Exception) -> Any:
        visit = (call.visit or answers.visit(call)) if self.max_stale and not call.cache_control.no_store else None
        if visit is None or not _within(visit, call.cache_control.stale_limit(self.max_stale)):
            raise error
        return _hit(visit, call)

    # -- what the guard asks of it -------------------------------------------------------------------------------------

    def looked_up(self, call: Call) -> Call:
        return call if call.cache_control.no_store else replace(call, visit=answers.visit(call))

    def at_once(self, call: Call) -> requests.Response | None:
        """What is kept, where the caller wants no call for it; None: MIFOS is to be asked. Raises NotCached."""
        asked, visit = call.cache_control, call.visit
        if visit is not None and visit.kept and asked.takes_fresh(visit.age) and visit.age <= self.max_stale:
            return _from_cache(visit, call)
        if not asked.only_if_cached:
            return None
        if visit is None or not _within(visit, asked.stale_limit(self.max_stale)):
            raise NotCached
        return _from_cache(visit, call)

    def asking(self, call: Call) -> Call:
        """The call as it goes to MIFOS: for nothing but a 304 if what is kept is today's."""
        etag = call.visit.kept.etag if call.visit and call.visit.kept else ""
        if not etag or any(name.lower() in ("if-none-match", "if-match") for name in call.headers):
            return call
        return replace(call, headers={**call.headers, "If-None-Match": etag})

    def settled(self, call: Call, answer: requests.Response) -> requests.Response:
        """What the caller gets for MIFOS's good answer, which is kept."""
        if call.visit is None:
            return answer
        if answer.status_code != 304:
            answers.keep(call.visit, answer, seconds=self.max_stale)
            return answer
        if call.visit.kept is None or not _is_of(call.visit, answer, _if_none_match(call)):
            return answer
        confirmed = answers.confirm(call.visit, answer, seconds=self.max_stale)
        if _if_none_match(call):
            return answer
        made: Any = confirmed.answer()
        made.provenance = MIFOS
        return made  # type: ignore[no-any-return]


def _within(visit: Visit, limit: float) -> bool:
    return visit.kept is not None and visit.age <= limit


def _is_of(visit: Visit, answer: requests.Response, if_none_match: str) -> bool:
    """Whether a 304 speaks of what is kept: of what we asked about, or of an ETag that is its."""
    assert visit.kept is not None
    return not if_none_match or answer.headers.get("ETag", if_none_match) == visit.kept.etag != ""


def _from_cache(visit: Visit, call: Call) -> requests.Response:
    made = _hit(visit, call)
    made.provenance = Cached.provenance
    return made  # type: ignore[no-any-return]


def _hit(visit: Visit, call: Call) -> Any:
    made = visit.answer(if_none_match=_if_none_match(call))
    made.headers["Cache-Status"] = HIT
    return made


def _if_none_match(call: Call) -> str:
    return next((value for name, value in call.headers.items() if name.lower() == "if-none-match"), "")
