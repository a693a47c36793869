"""How fast a backlog is sent: slowly at first, faster while all goes well, and slowly again when it does not.

So that MIFOS, which has just come back, is not knocked over again by what has waited for it.
"""

from __future__ import annotations

FIRST, SHARE = 1.0, 1 / 20
"""It begins with one a second; with a twentieth of the rate where that is more: ten seconds from there to the top."""
RISE = 1.5
"""Of the rate, each second in which nothing went wrong."""


class Pace:
    """Per second and process, at most `most`; `now` is any clock of seconds that does not jump."""

    def __init__(self, most: float, now: float) -> None:
        self.most = most
        self.first = max(min(FIRST, most), most * SHARE)
        self.rate = self.first
        self._allowance = 1.0
        self._seen = self._rises_at = now
        self._rises_at += 1

    def allowed(self, now: float) -> int:
        """How many may begin now; what is not taken adds up to a quarter of a second's worth, at least to one."""
        self._allowance = min(max(1.0, self.rate / 4), self._allowance + (now - self._seen) * self.rate)
        self._seen = now
        return int(self._allowance)

    def took(self, count: int) -> None:
        self._allowance -= count

    def went_well(self, now: float) -> None:
        if now >= self._rises_at:
            self.rate, self._rises_at = min(self.most, self.rate * RISE), now + 1

    def went_wrong(self, now: float) -> None:
        self.rate, self._rises_at = self.first, now + 1
        self._allowance = min(self._allowance, 1.0)
