"""What lies between a worker and the store, and what can go wrong there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from breaker.engine.stores.base import StoreError

How = Literal["cut", "mute"] | int
"""cut: nothing arrives. mute: what is sent happens, and its answer is lost. A number: it happens so many ms later,
unanswered."""

CHANGING = ("push", "write", "lease", "release")
"""The commands that do harm when they run late."""


class Wire:
    """A worker's way to a store, whichever store it is: the engine and the reference speak through one each."""

    def __init__(self, store: Any, now: Callable[[], int]) -> None:
        self.store, self.now = store, now
        self.down: How | None = None
        self.trap: tuple[str, How, bool] | None = None
        """The next command of this name meets with this, and all after it where it lasts."""
        self.late: list[tuple[int, Callable[[], Any]]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        def through(*args: Any, **kwargs: Any) -> Any:
            how = self._how(name)
            if how is None:
                return method(*args, **kwargs)
            if how == "mute":
                method(*args, **kwargs)
            elif how != "cut" and name in CHANGING:
                self.late.append((self.now() + how, lambda: method(*args, **kwargs)))
            raise StoreError(f"{name}: {how}")

        return through

    def _how(self, name: str) -> How | None:
        if self.trap is None or self.trap[0] != name:
            return self.down
        _, how, lasts = self.trap
        self.trap = None
        if lasts:
            self.down = how
        return how

    def deliver(self) -> int:
        """Let run what is held up no longer; how many commands that were."""
        due = [command for moment, command in self.late if moment <= self.now()]
        self.late = [(moment, command) for moment, command in self.late if moment > self.now()]
        for command in due:
            command()
        return len(due)
