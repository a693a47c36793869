"""Every row of the outcome table, and what the errors say."""

from __future__ import annotations

import json
import pickle

import pytest
import requests

from breaker.engine.window import Outcome
from mifos_gateway.errors import (
    BUSINESS_503_CODES,
    CredentialsRejected,
    GatewayError,
    InvalidCall,
    MifosTimeout,
    MifosUnavailable,
    OutcomeRules,
    ResponseTooLarge,
    classify,
    raise_if_credentials_rejected,
)

WITHDRAWAL_REFUSED = "error.msg.savingsaccount.account.trasaction.withdraw.notallowed"
WRITES_PAUSED = "error.msg.sheduler.job.currently.running"
UNAVAILABLE = "error.msg.platform.service.unavailable"


def answered(status: int, body: object = b"", **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def refusal(code: str, top: str = UNAVAILABLE) -> dict[str, object]:
    return {"userMessageGlobalisationCode": top, "errors": [{"userMessageGlobalisationCode": code}]}


@pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 400, 401, 403, 404, 405, 409, 425, 499])
def test_an_answer_below_500_is_a_success(status: int) -> None:
    assert classify(answered(status), None) is Outcome.SUCCESS


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 599, 600, 999])
def test_408_429_and_5xx_are_failures(status: int) -> None:
    assert classify(answered(status), None) is Outcome.FAILURE


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MifosUnavailable("refused", sent=False), Outcome.FAILURE),
        (MifosUnavailable("broken off", sent="unknown"), Outcome.FAILURE),
        (MifosTimeout("late", sent="unknown"), Outcome.TIMEOUT),
        (MifosTimeout("late", sent=False), Outcome.TIMEOUT),
        (ResponseTooLarge("large", sent="unknown"), Outcome.SUCCESS),
        (CredentialsRejected("401", sent="unknown"), Outcome.SUCCESS),
        (InvalidCall("a space"), Outcome.REJECT),
        (GatewayError("refused by us", sent=False), Outcome.REJECT),
        (RuntimeError("a mistake of ours"), Outcome.FAILURE),
    ],
)
def test_an_error_counts_as_the_table_says(error: Exception, outcome: Outcome) -> None:
    assert classify(None, error) is outcome


@pytest.mark.parametrize("status", [200, 409, 408, 429, 500, 503])
def test_a_replay_is_a_success_whatever_its_status(status: int) -> None:
    assert classify(answered(status, x_served_from_cache="true"), None) is Outcome.SUCCESS


def test_a_replay_counts_by_its_status_when_the_setting_is_off() -> None:
    rules = OutcomeRules(ignore_replays=False)
    assert classify(answered(500, x_served_from_cache="true"), None, rules=rules) is Outcome.FAILURE


def test_only_true_makes_a_replay() -> None:
    assert classify(answered(500, x_served_from_cache="false"), None) is Outcome.FAILURE


@pytest.mark.parametrize("code", [WITHDRAWAL_REFUSED, "err.msg.report.service.implementation.missing"])
def test_a_503_that_is_a_business_refusal_is_a_success(code: str) -> None:
    assert classify(answered(503, refusal(code)), None) is Outcome.SUCCESS


def test_the_code_on_top_counts_as_well() -> None:
    assert classify(answered(503, {"userMessageGlobalisationCode": WITHDRAWAL_REFUSED}), None) is Outcome.SUCCESS


def test_a_business_refusal_is_one_in_a_503_only() -> None:
    assert classify(answered(500, refusal(WITHDRAWAL_REFUSED)), None) is Outcome.FAILURE


def test_paused_writes_are_a_failure_because_callers_shall_back_off() -> None:
    assert classify(answered(503, refusal(WRITES_PAUSED)), None) is Outcome.FAILURE


def test_an_empty_list_turns_business_refusals_off() -> None:
    rules = OutcomeRules(business_503_codes=[])
    assert classify(answered(503, refusal(WITHDRAWAL_REFUSED)), None, rules=rules) is Outcome.FAILURE


def test_a_deployment_can_list_codes_of_its_own() -> None:
    rules = OutcomeRules(business_503_codes=[*BUSINESS_503_CODES, "error.msg.sheduler.*"])
    assert classify(answered(503, refusal(WRITES_PAUSED)), None, rules=rules) is Outcome.SUCCESS


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Service Unavailable</html>",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[" * 60_000,
        [],
        "text",
        None,
        {"errors": []},
        {"errors": None},
        {"errors": ["text"]},
        {"errors": {"0": {}}},
        {"errors": [{"userMessageGlobalisationCode": 7}]},
        {"errors": [{}, {"userMessageGlobalisationCode": WITHDRAWAL_REFUSED}]},
        {"userMessageGlobalisationCode": None},
        refusal(WITHDRAWAL_REFUSED) | {"padding": "x" * 70_000},
    ],
)
def test_any_other_503_is_a_failure(body: object) -> None:
    assert classify(answered(503, body), None) is Outcome.FAILURE


def test_a_401_means_that_our_own_user_is_rejected() -> None:
    with pytest.raises(CredentialsRejected, match="maker") as caught:
        raise_if_credentials_rejected(answered(401), user="maker")
    assert caught.value.sent == "unknown"


def test_any_other_status_leaves_the_credentials_alone() -> None:
    raise_if_credentials_rejected(answered(403), user="maker")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (MifosUnavailable, "BAD_GATEWAY", 502),
        (MifosTimeout, "GATEWAY_TIMEOUT", 504),
        (ResponseTooLarge, "RESPONSE_TOO_LARGE", 502),
        (CredentialsRejected, "MIFOS_CREDENTIALS_REJECTED", 502),
        (InvalidCall, "INVALID_CALL", 400),
    ],
)
def test_an_error_says_its_code_and_status(error: type[GatewayError], code: str, status: int) -> None:
    assert (error.code, error.status) == (code, status)


def test_an_error_keeps_its_message_and_whether_it_was_sent_when_pickled() -> None:
    error = pickle.loads(pickle.dumps(MifosTimeout("late", sent="unknown")))
    assert (str(error), error.message, error.sent) == ("late", "late", "unknown")
