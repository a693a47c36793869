"""Cached reads: what MIFOS answered before, while it gives no answer; stale-if-error of RFC 5861.

MIFOS's own `Cache-Control` is not obeyed: Spring Security writes `no-store` on every answer of Fineract, so that naming
a route is the operator's word that its answers may be kept. The caller's is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from breaker.fallbacks import Fallback
from mifos_gateway.kept import LONGEST, Visit, answers, matches
from mifos_gateway.refusals import NotCached

if TYPE_CHECKING:
    import requests

    from mifos_gateway.guard import Call

MIFOS = "mifos"
"""The provenance of an answer that is MIFOS's own, and of now."""
HIT, STALE = "mifos-gateway; hit", "mifos-gateway; fwd=stale"
"""`Cache-Status` of RFC 9211: given without a call, and given since the call brought no answer."""
_CONDITIONS = ("if-none-match", "if-match", "if-modified-since", "if-unmodified-since", "if-range")


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
        asked = getattr(call, "cache_control", None)
        if asked is None or not self.max_stale or call.method != "GET" or asked.no_store:
            raise error  # without the first it is the call of a function, of which nothing is kept
        visit = call.visit or answers.visit(call)
        if not _within(visit, asked.stale_limit(self.max_stale)):
            raise error
        return _given(visit, call, STALE)

    # -- what the guard asks of it -------------------------------------------------------------------------------------

    def looked_up(self, call: Call) -> Call:
        return call if call.cache_control.no_store else replace(call, visit=answers.visit(call))

    def at_once(self, call: Call) -> requests.Response | None:
        """What is kept, where the caller wants no call for it; None: MIFOS is to be asked. Raises NotCached."""
        asked, visit = call.cache_control, call.visit
        if visit is not None and visit.kept and asked.takes_fresh(visit.age) and visit.age <= self.max_stale:
            return _without_a_call(visit, call)
        if not asked.only_if_cached:
            return None
        if visit is None or not _within(visit, asked.stale_limit(self.max_stale)):
            raise NotCached
        return _without_a_call(visit, call)

    def asking(self, call: Call) -> Call:
        """The call as it goes to MIFOS: for nothing but a 304 if what is kept is today's."""
        if not _asks_whether_changed(call):
            return call
        assert call.visit is not None
        assert call.visit.kept is not None
        return replace(call, headers={**call.headers, "If-None-Match": call.visit.kept.etag})

    def settled(self, call: Call, answer: requests.Response, *, seconds: float) -> requests.Response:
        """What the caller gets for what MIFOS has answered, which is kept for so long."""
        visit = call.visit
        if visit is None:
            return answer
        if answer.status_code != 304:
            answers.keep(visit, answer, seconds=seconds)
        elif visit.kept is not None:
            return self._unchanged(call, visit, answer, seconds=seconds)
        return answer

    def _unchanged(self, call: Call, visit: Visit, answer: requests.Response, *, seconds: float) -> requests.Response:
        """A 304, which only goes to a caller who has asked for one."""
        assert visit.kept is not None
        etag = visit.kept.etag
        is_kept = bool(etag) and matches(answer.headers.get("ETag", etag), etag)  # a proxy may have made it weak
        if _asks_whether_changed(call):
            if not is_kept:
                answers.forget(visit)  # it names another than we asked about
                return _without_a_call(visit, call)
            made: Any = answers.confirm(visit, answer, seconds=seconds).answer()
            made.provenance = MIFOS
            return made  # type: ignore[no-any-return]
        if is_kept and "ETag" in answer.headers and matches(_header(call, "if-none-match"), etag):
            answers.confirm(visit, answer, seconds=seconds)
        return answer


def _asks_whether_changed(call: Call) -> bool:
    """Whether the question is ours: the caller puts none, and what is kept can be named."""
    kept = call.visit.kept if call.visit else None
    return bool(kept and kept.etag) and not any(name.lower() in _CONDITIONS for name in call.headers)


def _within(visit: Visit, limit: float) -> bool:
    return visit.kept is not None and visit.age <= limit


def _without_a_call(visit: Visit, call: Call) -> requests.Response:
    made = _given(visit, call, HIT)
    made.provenance = Cached.provenance
    return made  # type: ignore[no-any-return]


def _given(visit: Visit, call: Call, status: str) -> Any:
    made = visit.answer(if_none_match=_header(call, "if-none-match"))
    made.headers["Cache-Status"] = status
    return made


def _header(call: Call, wanted: str) -> str:
    return next((value for name, value in call.headers.items() if name.lower() == wanted), "")
