"""What a deferred request holds, to look at: headers, body, and MIFOS's answer; long ones cut, and no bytes as text."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

from mifos_gateway import vault
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import intake

LONGEST = 65_536
"""Characters of a body that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """`text` of it, or `why` there is none."""

    size: int = 0
    """Bytes."""
    text: str = ""
    why: str = ""
    left_out: int = 0
    """Characters behind `text`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    body: Body
    headers: dict[str, str] = field(default_factory=dict)
    response: Body | None = None
    """None: MIFOS has not ended it."""


def of(row: DeferredRequest, *, longest: int | None = LONGEST) -> Payload:
    """`longest`: characters of a body; None: all of it."""
    try:
        headers, content = intake.unsealed(row.payload)
    except vault.Unreadable as error:
        return Payload(body=Body(why=str(error)), response=_response(row, longest))
    return Payload(headers=headers, body=body(content, longest), response=_response(row, longest))


def _response(row: DeferredRequest, longest: int | None) -> Body | None:
    if row.response_status is None:
        return None
    try:
        return body(vault.unseal(bytes(row.response)) if row.response else b"", longest)
    except vault.Unreadable as error:
        return Body(why=str(error))


def body(content: bytes | None, longest: int | None = LONGEST) -> Body:
    """JSON is laid out where that changes nothing of it; other text is left as it is."""
    if not content:
        return Body(why="there is none")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return Body(size=len(content), why="it is no text")
    if "\0" in text:
        return Body(size=len(content), why="it is no text")
    if longest is None or len(content) <= 4 * longest:  # to lay out what is cut anyway costs more than it shows
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(_DECODER.decode(text), indent=2, ensure_ascii=False)
    return Body(size=len(content), text=text[:longest], left_out=len(text) - len(text[:longest]))


def _same(given: str) -> float:
    if repr(float(given)) != given:  # 1.10 is not to be shown as 1.1
        raise ValueError(given)
    return float(given)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):  # which of two MIFOS takes is not ours to guess
        raise ValueError("a name comes twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_float=_same, parse_constant=_same)
