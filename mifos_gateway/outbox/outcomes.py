"""What MIFOS's answer, or its silence, means for a deferred request: the one table of it.

2xx                                              delivered; awaiting_approval with `rollbackTransaction: true`
425                                              its key is in work: asked again; unknown when that lasts
409 error.msg.platform.service.….conflict        a transient error that is recorded: again, with a new key
409 error.msg.loan.locked, 503 scheduler, 429    refused before it was recorded: again, with the same key
5xx with `x-served-from-cache: true`             unknown: the recorded error of a call that may have had its effect
any other 5xx, 408, no answer                    again, with the same key
401                                              our own user is refused: again, once somebody has mended it
any other 4xx in JSON, a 503 that is a business  rejected; unknown where MIFOS does not look at keys before it refuses
refusal                                          (401, 403 and 405 of its doors, 404 of an external id that the write
                                                 itself may have ended), and a former attempt may have had its effect
3xx and 4xx in anything but JSON                 again: who stands before MIFOS, not MIFOS
not sent                                         again

Sources: FINERACT's command processing (section 2) and error mappers (sections 4 and 8).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from breaker.engine.window import Outcome
from mifos_gateway import conf
from mifos_gateway.errors import (
    Answer,
    CredentialsRejected,
    GatewayError,
    InvalidCall,
    MifosTimeout,
    ResponseTooLarge,
    classify,
    globalisation_codes,
)
from mifos_gateway.models import DeferredRequest
from mifos_gateway.refusals import ServiceUnavailable

Status = DeferredRequest.Status

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
REJECTED_PAUSE = 1.0  # whoever sends knows the circuit by itself, and an operator may close it at any time
CREDENTIALS_PAUSE = 30.0
BUSY_PAUSE = 5.0
LOCKED_PAUSE = 15.0  # FINERACT: close of business holds a loan for minutes
ASKED_AT_MOST = 8  # while a key is in work; the seven pauses between them are one to two minutes
_CONFLICT = "error.msg.platform.service.*conflict"
_BEFORE_THE_RECORD = ("error.msg.loan.locked", "error.msg.sheduler.job.currently.running")  # *sic*
_BEFORE_THE_KEY = ("error.msg.not.authorized", "error.msg.invalid.instance.type")
_CODE = re.compile(r"[\w.-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`status`: what becomes of the request; QUEUED: again, after `pause` seconds. `outcome`: the attempt's, in a word.

    `new_key`: the one that was sent is burnt, and nothing was done with it. `may_have_arrived`: with the key it has.
    """

    status: str
    outcome: str
    pause: float = 0.0
    new_key: bool = False
    burnt: bool = False
    may_have_arrived: bool = False
    was_sent: bool = True
    """False: this attempt says nothing about whether MIFOS has it."""


def back_off(failures: int, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds until the next attempt, after so many that failed in a row: doubled, and half of it by chance."""
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10)) if failures > 0 else 0.0
    return longest * (0.5 + chance() / 2)


def of_answer(answer: Answer, *, failures: int, perhaps_sent: bool, asked: int) -> Verdict:
    """`failures`: in a row before this one; `perhaps_sent`: by one of them; `asked`: how often 425 came in a row."""
    status, again = answer.status_code, back_off(failures + 1)
    replayed = answer.headers.get("x-served-from-cache", "").strip().lower() == "true"
    codes = globalisation_codes(answer.content)
    if 200 <= status < 300:
        awaits = _body(answer).get("rollbackTransaction") is True
        return (
            Verdict(Status.AWAITING_APPROVAL, "awaiting_approval") if awaits else Verdict(Status.DELIVERED, "delivered")
        )
    if status == 425:
        if asked + 1 >= ASKED_AT_MOST:
            return Verdict(Status.UNKNOWN, "unknown", may_have_arrived=True)
        return Verdict(Status.QUEUED, "processing", back_off(asked + 1), may_have_arrived=True)
    if status == 409 and _any(codes, _CONFLICT):
        return Verdict(Status.QUEUED, "conflict", again, new_key=True)
    if not replayed and (status == 429 or any(_any(codes, code) for code in _BEFORE_THE_RECORD)):
        outcome = "throttled" if status == 429 else "locked" if status == 409 else "busy"
        pause = max(again, _retry_after(answer), LOCKED_PAUSE if status == 409 else BUSY_PAUSE)
        return Verdict(Status.QUEUED, outcome, pause, was_sent=False)
    if status == 408:
        return Verdict(Status.QUEUED, "failed", again, may_have_arrived=True)
    if status >= 500 and classify(answer, None, rules=conf.outcome_rules()) is Outcome.SUCCESS and not replayed:
        return Verdict(Status.REJECTED, "rejected")  # a business refusal
    if status >= 500:
        if replayed:
            return Verdict(Status.UNKNOWN, "unknown", burnt=True, may_have_arrived=True)
        return Verdict(Status.QUEUED, "failed", max(again, _retry_after(answer)), may_have_arrived=True)
    if not _is_json_object(answer):
        return Verdict(Status.QUEUED, "failed", max(again, _retry_after(answer)), was_sent=False)
    if perhaps_sent and not replayed and _before_the_key(status, codes):
        return Verdict(Status.UNKNOWN, "unknown", may_have_arrived=True)
    return Verdict(Status.REJECTED, "rejected", burnt=replayed)


def of_error(error: GatewayError, *, failures: int) -> Verdict:
    if isinstance(error, InvalidCall):
        return Verdict(Status.REJECTED, "rejected", was_sent=False)
    if isinstance(error, ServiceUnavailable):
        return Verdict(Status.QUEUED, "not_sent", REJECTED_PAUSE, was_sent=False)
    if isinstance(error, CredentialsRejected):
        return Verdict(Status.QUEUED, "credentials_rejected", CREDENTIALS_PAUSE, was_sent=False)
    if isinstance(error, ResponseTooLarge):
        return Verdict(Status.UNKNOWN, "unknown", may_have_arrived=True)
    again = back_off(failures + 1)
    if error.sent is False:
        return Verdict(Status.QUEUED, "not_sent", again, was_sent=False)
    outcome = "timeout" if isinstance(error, MifosTimeout) else "failed"
    return Verdict(Status.QUEUED, outcome, again, may_have_arrived=True)


def reason(answer: Answer) -> str:
    """MIFOS's code for what is wrong, such as `error.msg.loan.locked`; "" without one. Its words may hold a name."""
    if answer.status_code < 400:
        return ""
    codes = [code for code in globalisation_codes(answer.content) if _CODE.fullmatch(code)]
    return codes[-1] if codes else ""


def _before_the_key(status: int, codes: list[str]) -> bool:
    """FINERACT finds out whose an external id is before it looks at keys, and so answers 404 to a second DELETE."""
    return not codes or status == 404 or any(_any(codes, code) for code in _BEFORE_THE_KEY)


def _any(codes: list[str], pattern: str) -> bool:
    return any(fnmatchcase(code, pattern) for code in codes)


def _is_json_object(answer: Answer) -> bool:
    return isinstance(_json(answer), dict)


def _body(answer: Answer) -> dict[str, Any]:
    found = _json(answer)
    return found if isinstance(found, dict) else {}


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        return None


def _retry_after(answer: Answer) -> float:
    given = answer.headers.get("Retry-After", "")
    return float(min(int(given), 3600)) if given.isascii() and given.isdigit() else 0.0
