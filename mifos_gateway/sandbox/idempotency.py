"""Every write is a command row, and a repeated Idempotency-Key finds the first one's: Fineract's rules, traps included.

| the row found      | the repeat is answered with                                     |
|--------------------|-----------------------------------------------------------------|
| PROCESSED          | the stored answer                                               |
| ERROR              | the stored error: the key is burnt                              |
| UNDER_PROCESSING   | 425 with the request's body, after a short wait for the result  |
| AWAITING, REJECTED | 425                                                             |

All of them carry `x-served-from-cache: true`. A key is unique with action and entity only, whoever sends it and
whatever resource it is about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from itertools import count
from threading import Condition
from typing import Any

from .errors import ServerError
from .messages import Answer

LONGEST_KEY = 50  # Fineract's column is varchar(50)
SERVED_FROM_CACHE = ("x-served-from-cache", "true")


class Result(IntEnum):
    PROCESSED = 1
    AWAITING_APPROVAL = 2
    REJECTED = 3
    UNDER_PROCESSING = 4
    ERROR = 5

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").title()


@dataclass
class Command:
    """One write: who asked for what, and what came of it."""

    id: int
    action: str
    entity: str
    key: str | None
    user: str
    resource_id: int | None
    payload: Mapping[str, Any]
    body: bytes
    effect: Callable[[], dict[str, Any]]
    made_at: datetime
    result: Result = Result.UNDER_PROCESSING
    answer: Answer | None = None
    checker: str | None = None
    checked_at: datetime | None = None

    @property
    def names(self) -> tuple[str, str, str | None]:
        return self.action, self.entity, self.key


class Commands:
    """One tenant's command rows."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._ids = count(1)
        self._rows: dict[int, Command] = {}
        self._by_key: dict[tuple[str, str, str | None], Command] = {}

    def claim(self, *, patience: float, **fields: Any) -> Command | Answer:
        """A new row UNDER_PROCESSING, or the answer to a repeat after at most `patience` seconds."""
        names = (fields["action"], fields["entity"], fields["key"])
        if len(fields["key"] or "") > LONGEST_KEY:
            # The insert fails ("Data too long for column"); nothing is stored. That Fineract maps this to a 500 is
            # our reading of its code, not seen on a server.
            raise ServerError()
        with self._changed:
            first = self._by_key.get(names) if fields["key"] else None
            if first is None:
                return self._insert(**fields)
            self._changed.wait_for(lambda: first.result is not Result.UNDER_PROCESSING, patience)
            return self._repeat(first, fields["body"])

    def finish(self, command: Command, result: Result, answer: Answer | None = None) -> None:
        with self._changed:
            command.result, command.answer = result, answer
            self._changed.notify_all()

    def take(self, command: Command, *, checker: str) -> bool:
        """Puts a row that awaits approval into this checker's hands; False when another one was quicker."""
        with self._changed:
            if command.result is not Result.AWAITING_APPROVAL:
                return False
            command.result, command.checker, command.checked_at = Result.UNDER_PROCESSING, checker, datetime.now(UTC)
            return True

    def get(self, command_id: int) -> Command | None:
        return self._rows.get(command_id)

    def delete(self, command_id: int) -> None:
        with self._changed:
            command = self._rows.pop(command_id)
            self._by_key.pop(command.names, None)

    def all(self) -> list[Command]:
        with self._changed:
            return list(self._rows.values())

    def _insert(self, **fields: Any) -> Command:
        command = Command(id=next(self._ids), made_at=datetime.now(UTC), **fields)
        self._rows[command.id] = command
        if command.key:
            self._by_key[command.names] = command
        return command

    def _repeat(self, first: Command, body: bytes) -> Answer:
        if first.answer is not None and first.result in (Result.PROCESSED, Result.ERROR):
            return first.answer.having(SERVED_FROM_CACHE)
        return Answer(425, body).having(SERVED_FROM_CACHE)
