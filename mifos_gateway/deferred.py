"""Deferred writes, as a strategy: accepted now, sent to MIFOS when it answers again."""

from __future__ import annotations

from typing import Any

from breaker.fallbacks import Answered, Fallback
from mifos_gateway import conf
from mifos_gateway.errors import MifosFailed

HOUR = 3600


class Deferred(Fallback):
    """Accepts a write for later when MIFOS has not got it, or when its key makes it safe to repeat.

    `ttl`: for so many seconds it is worth being sent; an hour unless said. `automatic`: of a named route, also for who
    did not ask.
    `safe`: the route is safe to repeat though MIFOS is not known to honour keys there (uploads, batches, …).
    """

    provenance = "deferred"

    def __init__(self, ttl: float | None = None, *, automatic: bool = False, safe: bool = False) -> None:
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int | float) or not ttl > 0):
            raise ValueError(f"ttl={ttl!r}: seconds, more than 0, are needed")
        self.ttl = ttl
        self.automatic = automatic
        self.safe = safe

    def __repr__(self) -> str:
        said = [f"ttl={self.ttl:g}"] if self.ttl is not None else []
        said += [f"{name}=True" for name in ("automatic", "safe") if getattr(self, name)]
        return f"Deferred({', '.join(said)})"

    @property
    def seconds(self) -> float:
        """The time to live. MIFOS forgets keys after a while, and what is sent again then would be done again."""
        return min(self.ttl if self.ttl is not None else HOUR, conf.gateway().mifos_purge_days * 24 * HOUR)

    def given(self, call: Any, error: Exception, *, rejected: bool) -> Answered:
        if not rejected and not _may_be_sent_again(error):
            raise error
        return Answered(self.answer(call, error), self.provenance)

    def answer(self, call: Any, error: Exception) -> Any:
        from mifos_gateway.outbox import intake  # which knows calls, and they us

        if getattr(call, "write", None) is None or call.write.deferred is None:
            raise error
        return intake.accept(call, perhaps_sent=getattr(error, "sent", None) is not False, admitted=True)


def _may_be_sent_again(error: Exception) -> bool:
    """MIFOS's own answer is one, whatever it says; where there is none the key that went with the call protects."""
    return not isinstance(error, MifosFailed) and getattr(error, "sent", None) in (False, "unknown")
