"""Name what can go wrong with a call to MIFOS, and decide what of it counts as a failure of MIFOS.

GatewayError                     code, status, and `sent`: may MIFOS have done it?
├── InvalidCall (ValueError)     400 INVALID_CALL                 the caller asked for what cannot be sent; nothing was
├── MifosUnavailable             502 BAD_GATEWAY                  look-up, refused, reset, TLS, broken off, garbage
│   └── MifosFailed              for fallbacks alone              MIFOS's answer counts as a failure
├── MifosTimeout                 504 GATEWAY_TIMEOUT              the wall-clock limit passed
├── ResponseTooLarge             502 RESPONSE_TOO_LARGE           more than MIFOS_MAX_RESPONSE_BYTES
├── AcceptanceUnknown            503 ACCEPTANCE_UNKNOWN           a write is deferred, or is not
└── CredentialsRejected          502 MIFOS_CREDENTIALS_REJECTED   MIFOS refuses our own technical user (its 401)

refusals.py hangs the gateway's own refusals under the same root.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import ClassVar, Literal, Protocol

from breaker.engine.window import Outcome

Sent = Literal[False, "unknown"] | None
"""False: no byte of the request left. "unknown": some did, so MIFOS may have acted. None: no call was meant."""


class GatewayError(Exception):
    """The root of all that the gateway says went wrong; `code` and `status` are what a REST caller sees."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500
    headers: Mapping[str, str] = MappingProxyType({})
    idempotency_key: str | None = None
    """To repeat the write by: what the caller gave, or ours for one that may be deferred. None where the key is what
    was wrong."""

    def __init__(self, message: str, *, sent: Sent = None) -> None:
        super().__init__(message)
        self.message = message
        self.sent: Sent = sent

    @property
    def log_message(self) -> str:
        """For the log: our own words, which hold no query, body, secret or person."""
        return self.message

    @property
    def for_consumers(self) -> str:
        """What a REST caller is told. Where MIFOS is, and what is wrong with its network, only the log says."""
        return self.message


class InvalidCall(GatewayError, ValueError):
    """The call cannot be put on the wire as it was asked for."""

    code = "INVALID_CALL"
    status = 400

    def __init__(self, message: str, *, sent: Sent = False) -> None:
        super().__init__(message, sent=sent)


class MifosUnavailable(GatewayError):
    """MIFOS could not be reached, or the exchange broke off."""

    code = "BAD_GATEWAY"
    status = 502

    @property
    def for_consumers(self) -> str:
        return "MIFOS cannot be reached." if self.sent is False else "MIFOS gave no whole and valid answer."


class MifosFailed(MifosUnavailable):
    """What a fallback is told of an answer that counts as a failure. Without a fallback the answer itself is given."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"MIFOS answered with status {answer.status_code}.", sent="unknown")
        self.answer = answer


class MifosTimeout(GatewayError):
    """The call's wall-clock limit passed; the connection is closed."""

    code = "GATEWAY_TIMEOUT"
    status = 504

    @property
    def for_consumers(self) -> str:
        return "MIFOS could not be reached in time." if self.sent is False else "MIFOS did not answer in time."


class ResponseTooLarge(GatewayError):
    """MIFOS answered more than we take; its request was carried out or not, we cannot tell."""

    code = "RESPONSE_TOO_LARGE"
    status = 502


class AcceptanceUnknown(GatewayError):
    """The database broke off while a write was being accepted for later: it may be sent to MIFOS, or never.

    `headers` has the key under which the call can be repeated without harm.
    """

    code = "ACCEPTANCE_UNKNOWN"
    status = 503

    def __init__(self, key: str) -> None:
        message = "Whether it was accepted for later is not known. Repeat it with the Idempotency-Key of this answer."
        super().__init__(message, sent="unknown")
        self.headers = {"Idempotency-Key": key, "Retry-After": "2"}


class CredentialsRejected(GatewayError):
    """MIFOS answered 401 to our technical user. It did nothing, but bytes left, and `sent` is about bytes."""

    code = "MIFOS_CREDENTIALS_REJECTED"
    status = 502


class Answer(Protocol):
    """What is asked of a `requests.Response` here."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...


BUSINESS_503_CODES = (
    # A deposit or withdrawal that the account's state forbids (fineract-savings' exceptions; "trasaction" is theirs).
    "*.account.trasaction.*.notallowed",
    # A report whose engine is not installed: permanent, and about that report only.
    "err.msg.report.service.implementation.missing",
    # Not here: `error.msg.sheduler.job.currently.running`. While the scheduler works Fineract refuses *every* write and
    # wants callers to back off, which is what an open write breaker does; the breakers of reads are not touched by it.
)
"""Globalisation codes (fnmatch) of a 503 that says no to one call and nothing about MIFOS's health."""

_LARGEST_ERROR_BODY = 65_536  # Fineract's are below 2 KiB; a larger 503 is no business refusal worth parsing


@dataclass(frozen=True, slots=True)
class OutcomeRules:
    """The two lines of the table that a deployment can change."""

    ignore_replays: bool = True
    business_503_codes: Sequence[str] = BUSINESS_503_CODES


def classify(response: Answer | None, error: BaseException | None, *, rules: OutcomeRules = OutcomeRules()) -> Outcome:
    """How a call counts for its breaker, the only such table; exactly one of response and error is given.

    2xx, 3xx, 4xx but 408 and 429                                success: MIFOS is alive, its 401 included
    5xx, 408, 429                                                failure
    look-up, refused, reset, TLS, garbage, broken off            failure
    the wall-clock limit passed                                  timeout
    refused before anything was sent                             reject
    an answer larger than we take                                success
    any status with `x-served-from-cache: true`                  success: a replay says nothing of today
    a 503 that is a business refusal by its globalisation code   success
    """
    if error is not None:
        return _classify_error(error)
    assert response is not None
    return _classify_answer(response, rules)


def raise_if_credentials_rejected(response: Answer, *, user: str) -> None:
    """Every 401 of MIFOS means our own technical user: the gateway sends no other credentials."""
    if response.status_code == 401:
        raise CredentialsRejected(f"MIFOS rejects the gateway's own {user} user.", sent="unknown")


def _classify_error(error: BaseException) -> Outcome:
    match error:
        case MifosTimeout():
            return Outcome.TIMEOUT
        case ResponseTooLarge() | CredentialsRejected():
            return Outcome.SUCCESS
        case MifosUnavailable():
            return Outcome.FAILURE
        case GatewayError(sent=False):
            return Outcome.REJECT
    return Outcome.FAILURE


def _classify_answer(response: Answer, rules: OutcomeRules) -> Outcome:
    status = response.status_code
    if 200 <= status < 500 and status not in (408, 429):
        return Outcome.SUCCESS
    if rules.ignore_replays and response.headers.get("x-served-from-cache", "").strip().lower() == "true":
        return Outcome.SUCCESS
    if status == 503 and rules.business_503_codes and _is_business_refusal(response.content, rules.business_503_codes):
        return Outcome.SUCCESS
    return Outcome.FAILURE


def _is_business_refusal(body: bytes, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(code, pattern) for code in globalisation_codes(body) for pattern in patterns)


def globalisation_codes(body: bytes) -> list[str]:
    """The codes of Fineract's error JSON: the reason is in the first of `errors`, older answers have it on top."""
    if len(body) > _LARGEST_ERROR_BODY:
        return []
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return []  # a proxy's HTML, say
    levels = [answer]
    if isinstance(answer, dict) and isinstance(answer.get("errors"), list):
        levels += answer["errors"][:1]
    codes = [level.get("userMessageGlobalisationCode") for level in levels if isinstance(level, dict)]
    return [code for code in codes if isinstance(code, str)]
