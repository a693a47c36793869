"""Every row of the table: what an answer of MIFOS, or its silence, means for a deferred request."""

from __future__ import annotations

from typing import Any

import pytest

from mifos_gateway.errors import CredentialsRejected, GatewayError, MifosTimeout, MifosUnavailable, ResponseTooLarge
from mifos_gateway.outbox import outcomes
from mifos_gateway.outbox.outcomes import Verdict, back_off, of_answer, of_error
from mifos_gateway.refusals import ServiceUnavailable
from tests.mifos_gateway.conftest import mifos_answer

SENT = {"may_have_arrived": True}
NOT_SENT = {"was_sent": False}
REPLAYED = {"Content-Type": "application/json", "x-served-from-cache": "true"}


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest pause that chance allows."""
    monkeypatch.setattr(outcomes, "back_off", lambda failures: back_off(failures, chance=lambda: 1.0))


def refusal(code: str) -> dict[str, Any]:
    return {"userMessageGlobalisationCode": "error.msg", "errors": [{"userMessageGlobalisationCode": code}]}


LOCKED = refusal("error.msg.loan.locked")
CONFLICT = refusal("error.msg.platform.service.loan.conflict")
SCHEDULER = refusal("error.msg.sheduler.job.currently.running")
BUSINESS = refusal("error.msg.savingsaccount.account.trasaction.withdraw.notallowed")
FORBIDDEN = refusal("error.msg.not.authorized")
WRONG_NODE = refusal("error.msg.invalid.instance.type")
RULE = refusal("validation.msg.domain.rule.violation")
EXTERNAL_ID = refusal("error.msg.loan.external.id.invalid")


def said(status: int, body: Any = b"", replayed: bool = False, retry_after: str = "", **known: Any) -> Verdict:
    headers = dict(REPLAYED) if replayed else {"Content-Type": "application/json"}
    if retry_after:
        headers["Retry-After"] = retry_after
    return of_answer(mifos_answer(status, body, headers), **{"failures": 0, "perhaps_sent": False, "asked": 0, **known})


def again(outcome: str, pause: float = 1.0, **more: Any) -> Verdict:
    return Verdict("queued", outcome, pause, **more)


@pytest.mark.parametrize("perhaps_sent", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "replayed", "verdict"),
    [
        (200, {"resourceId": 1}, False, Verdict("delivered", "delivered")),
        (200, {"resourceId": 1}, True, Verdict("delivered", "delivered")),
        (201, b"", False, Verdict("delivered", "delivered")),
        (204, b"", False, Verdict("delivered", "delivered")),
        (200, {"rollbackTransaction": False}, False, Verdict("delivered", "delivered")),
        (200, {"rollbackTransaction": "true"}, False, Verdict("delivered", "delivered")),
        (200, [{"rollbackTransaction": True}], False, Verdict("delivered", "delivered")),
        (200, b"{" * 5000, False, Verdict("delivered", "delivered")),
        (200, {"rollbackTransaction": True}, False, Verdict("awaiting_approval", "awaiting_approval")),
        (200, {"rollbackTransaction": True}, True, Verdict("awaiting_approval", "awaiting_approval")),
        (425, b"{}", True, again("processing", **SENT)),
        (425, b"{}", False, again("processing", **SENT)),
        (409, CONFLICT, False, again("conflict", new_key=True)),
        (409, CONFLICT, True, again("conflict", new_key=True)),
        (409, LOCKED, False, again("locked", 15.0, **NOT_SENT)),
        (503, SCHEDULER, False, again("busy", 5.0, **NOT_SENT)),
        (429, b"", False, again("throttled", 5.0, **NOT_SENT)),
        (408, b"", False, again("failed", **SENT)),
        (500, RULE, False, again("failed", **SENT)),
        (500, b"<html>", False, again("failed", **SENT)),
        (502, b"<html>", False, again("failed", **SENT)),
        (503, b"", False, again("failed", **SENT)),
        (504, b"", False, again("failed", **SENT)),
        (503, BUSINESS, False, Verdict("rejected", "rejected")),
        (500, b"", True, Verdict("unknown", "unknown", burnt=True, **SENT)),
        (503, BUSINESS, True, Verdict("unknown", "unknown", burnt=True, **SENT)),
        (503, SCHEDULER, True, Verdict("unknown", "unknown", burnt=True, **SENT)),
        (400, RULE, False, Verdict("rejected", "rejected")),
        (403, RULE, False, Verdict("rejected", "rejected")),
        (403, RULE, True, Verdict("rejected", "rejected", burnt=True)),
        (409, RULE, False, Verdict("rejected", "rejected")),
        (409, LOCKED, True, Verdict("rejected", "rejected", burnt=True)),
        (403, FORBIDDEN, True, Verdict("rejected", "rejected", burnt=True)),
    ],
)
def test_what_an_answer_means_however_often_it_was_sent(
    status: int, body: Any, replayed: bool, verdict: Verdict, perhaps_sent: bool
) -> None:
    assert said(status, body, replayed, perhaps_sent=perhaps_sent) == verdict


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, FORBIDDEN),
        (405, WRONG_NODE),
        (404, EXTERNAL_ID),
    ],
)
def test_who_refuses_before_it_looks_at_keys_says_nothing_of_what_was_sent_before(status: int, body: Any) -> None:
    assert said(status, body) == Verdict("rejected", "rejected")
    assert said(status, body, perhaps_sent=True) == Verdict("unknown", "unknown", **SENT)


@pytest.mark.parametrize("perhaps_sent", [True, False])
@pytest.mark.parametrize(
    ("status", "body"), [(404, b"default backend"), (403, b"<html>"), (302, b""), (413, b""), (400, b"[]")]
)
def test_who_stands_before_mifos_rejects_nothing(status: int, body: bytes, perhaps_sent: bool) -> None:
    assert said(status, body, perhaps_sent=perhaps_sent) == again("failed", **NOT_SENT)


def test_a_key_in_work_is_asked_for_eight_times() -> None:
    assert [said(425, asked=count).status for count in range(9)] == ["queued"] * 7 + ["unknown"] * 2
    assert said(425, asked=7).may_have_arrived
    # Its back-off is by how often it was asked, whatever failed before: one to two minutes in all.
    assert [said(425, asked=count, failures=6).pause for count in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]


def test_a_deployments_own_business_refusals_are_refusals(settings: Any) -> None:
    settings.GATEWAY = {"BUSINESS_503_CODES": ["error.msg.ours"]}
    assert said(503, refusal("error.msg.ours")) == Verdict("rejected", "rejected")
    assert said(503, BUSINESS) == again("failed", **SENT)


@pytest.mark.parametrize(
    ("given", "pause"), [("7", 7.0), ("7200", 3600.0), ("", 1.0), ("-1", 1.0), ("²", 1.0), ("Sat, 28 Nov 2026", 1.0)]
)
@pytest.mark.parametrize(("status", "body"), [(429, b""), (503, SCHEDULER), (503, b"")])
def test_mifos_may_say_when(status: int, body: Any, given: str, pause: float) -> None:
    assert said(status, body, retry_after=given).pause == max(pause, 1.0 if body == b"" and status == 503 else 5.0)


def test_who_fails_in_a_row_waits_longer_and_a_minute_at_most() -> None:
    assert [said(500, failures=count).pause for count in (0, 1, 2, 5, 6, 50)] == [1, 2, 4, 32, 60, 60]
    assert [back_off(count, chance=lambda: 0.0) for count in (0, 1, 2, 10**6)] == [0, 0.5, 1, 30]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ServiceUnavailable(breaker="x", reason="open", retry_after=60), again("not_sent", **NOT_SENT)),
        (CredentialsRejected("no", sent="unknown"), again("credentials_rejected", 30.0, **NOT_SENT)),
        (MifosUnavailable("refused", sent=False), again("not_sent", 4.0, **NOT_SENT)),
        (MifosTimeout("no connection in time", sent=False), again("not_sent", 4.0, **NOT_SENT)),
        (MifosUnavailable("reset", sent="unknown"), again("failed", 4.0, **SENT)),
        (MifosTimeout("slow", sent="unknown"), again("timeout", 4.0, **SENT)),
        (ResponseTooLarge("large", sent="unknown"), Verdict("unknown", "unknown", **SENT)),
        (GatewayError("who knows"), again("failed", 4.0, **SENT)),
    ],
)
def test_what_no_answer_means(error: GatewayError, verdict: Verdict) -> None:
    assert of_error(error, failures=2) == verdict


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (409, LOCKED, "error.msg.loan.locked"),
        (400, {"userMessageGlobalisationCode": "error.msg"}, "error.msg"),
        (403, refusal("Asha Rao owes 5,000"), "error.msg"),
        (403, refusal("x" * 256), "error.msg"),
        (500, b"<html>", ""),
        (400, {"errors": []}, ""),
        (200, LOCKED, ""),
    ],
)
def test_the_reason_is_mifos_s_code_and_none_of_its_words(status: int, body: Any, told: str) -> None:
    assert outcomes.reason(mifos_answer(status, body)) == told
