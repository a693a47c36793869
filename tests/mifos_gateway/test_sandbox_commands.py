"""The sandbox treats Idempotency-Key and maker-checker as FINERACT.md sections 2 and 3 tell."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.mifos_gateway.sandbox_http import Caller, Reply

REPAY = "loans/{}/transactions?command=repayment"
FIVE = {"transactionAmount": 5}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0) as running:
        yield running


@pytest.fixture
def call(sandbox: Sandbox) -> Caller:
    return Caller(sandbox)


def cached(reply: Reply) -> bool:
    return reply.headers.get("x-served-from-cache") == "true"


def amounts(sandbox: Sandbox) -> list[Any]:
    return [row["amount"] for row in sandbox.ledger()]


# Idempotency-Key


def test_a_repeat_gets_the_stored_answer_and_has_no_effect(sandbox: Sandbox, call: Caller) -> None:
    first, second = (call.keyed(REPAY.format(3), FIVE, "k") for _ in range(2))

    assert (cached(first), cached(second), second.body) == (False, True, first.body)
    assert amounts(sandbox) == [5]


def test_a_key_is_the_same_on_another_loan_for_another_user(sandbox: Sandbox, call: Caller) -> None:
    first = call.keyed(REPAY.format(3), FIVE, "k")
    second = call.keyed(REPAY.format(4), {"transactionAmount": 7}, "k", user="checker")

    assert (second.body, amounts(sandbox)) == (first.body, [5])


def test_a_key_is_another_one_with_another_action(sandbox: Sandbox, call: Caller) -> None:
    call.keyed("savingsaccounts/3/transactions?command=deposit", FIVE, "k")
    call.keyed("savingsaccounts/3/transactions?command=withdrawal", FIVE, "k")

    assert amounts(sandbox) == [5, 5]


def test_without_a_key_nothing_is_protected(sandbox: Sandbox, call: Caller) -> None:
    for _ in range(2):
        call("POST", REPAY.format(3), FIVE)

    assert amounts(sandbox) == [5, 5]


def test_a_stored_error_burns_its_key(sandbox: Sandbox, call: Caller) -> None:
    refused = call.keyed(REPAY.format(3), {}, "k")
    again = call.keyed(REPAY.format(3), FIVE, "k")

    assert (refused.status, again.status, cached(again), again.body) == (400, 400, True, refused.body)
    assert amounts(sandbox) == []


def test_a_refusal_before_the_command_row_burns_no_key(sandbox: Sandbox, call: Caller) -> None:
    loan = call("POST", "loans", {"clientId": 1, "productId": 1, "principal": 10}).json["loanId"]
    call.keyed(f"loans/{loan}?command=approve", {}, "k", user="nobody")
    call.keyed(f"loans/{loan}?command=approve", {}, "k", user="maker")
    call.keyed(f"loans/{loan}?command=approve", b"{", "k", user="checker")

    assert call.keyed(f"loans/{loan}?command=approve", {}, "k", user="checker").status == 200


def test_a_key_of_fifty_characters_is_the_longest(sandbox: Sandbox, call: Caller) -> None:
    fits, too_long = (call.keyed(REPAY.format(3), FIVE, "k" * length).status for length in (50, 51))

    assert (fits, too_long, amounts(sandbox)) == (200, 500, [5])


def test_a_repeat_while_the_first_runs_is_425_with_the_requests_body(sandbox: Sandbox, call: Caller) -> None:
    """The first one's effect is done, but never stored: to a repeat that is a command that runs for ever."""
    sandbox.set(conflict_seconds=0)
    sandbox.set_faults(mode="error", after="crash", times=1)
    call.keyed(REPAY.format(3), FIVE, "k")

    repeat = call.keyed(REPAY.format(3), {"transactionAmount": 6}, "k")

    assert (repeat.status, repeat.json, cached(repeat)) == (425, {"transactionAmount": 6}, True)
    assert amounts(sandbox) == [5]


def test_a_repeat_waits_a_little_for_the_first(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set(processing_seconds=0.2, conflict_seconds=60)
    replies: list[Reply] = []
    both = [threading.Thread(target=lambda: replies.append(call.keyed(REPAY.format(3), FIVE, "k"))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()

    assert sorted(map(cached, replies)) == [False, True]
    assert amounts(sandbox) == [5]


def test_uploads_ignore_the_key(sandbox: Sandbox, call: Caller) -> None:
    numbers = [call.keyed("clients/1/documents", b"content", "k").json["resourceId"] for _ in range(2)]

    assert numbers == [2, 3]


# Maker-checker


@pytest.fixture
def waiting(sandbox: Sandbox, call: Caller) -> int:
    """The id of a maker's repayment that waits for a checker."""
    sandbox.set(maker_checker=True)
    reply = call.keyed(REPAY.format(3), FIVE, "k")
    assert (reply.status, reply.json["rollbackTransaction"]) == (200, True)
    identifier: int = reply.json["commandId"]
    return identifier


def test_a_waiting_command_has_no_effect(sandbox: Sandbox, call: Caller, waiting: int) -> None:
    assert (amounts(sandbox), call("GET", "loans/3").json["summary"]["totalRepayment"]) == ([], 0)
    assert [row["id"] for row in call("GET", "makercheckers?entityName=LOAN").json] == [waiting]


def test_an_approved_command_has_its_effect(sandbox: Sandbox, call: Caller, waiting: int) -> None:
    approved = call("POST", f"makercheckers/{waiting}?command=approve", user="checker")

    [row] = sandbox.ledger()
    assert (approved.json["loanId"], row["user"], row["checker"], row["key"]) == (3, "maker", "checker", "k")
    assert call("GET", f"audits/{waiting}").json["processingResult"] == "Processed"


def test_an_approved_command_answers_its_key_from_then_on(call: Caller, waiting: int) -> None:
    approved = call("POST", f"makercheckers/{waiting}?command=approve", user="checker")
    repeat = call.keyed(REPAY.format(3), FIVE, "k")

    assert (repeat.status, cached(repeat), repeat.body) == (200, True, approved.body)


@pytest.mark.parametrize("rejected", [False, True])
def test_the_key_of_a_waiting_or_rejected_command_is_425(call: Caller, waiting: int, rejected: bool) -> None:
    if rejected:
        call("POST", f"makercheckers/{waiting}?command=reject", user="checker")

    assert call.keyed(REPAY.format(3), FIVE, "k").status == 425


def test_the_same_user_cannot_check(call: Caller, waiting: int) -> None:
    reply = call("POST", f"makercheckers/{waiting}?command=approve", user="maker")

    assert (reply.status, reply.code) == (400, "error.msg.command.unsupported")


def test_a_maker_cannot_check_another_ones_command(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set(maker_checker=True)
    identifier = call("POST", REPAY.format(3), FIVE, user="checker").json["commandId"]

    assert call("POST", f"makercheckers/{identifier}?command=approve", user="maker").status == 403


@pytest.mark.parametrize("method", ["approve", "reject", "delete"])
def test_a_command_is_handled_once(call: Caller, waiting: int, method: str) -> None:
    target = f"makercheckers/{waiting}" + ("" if method == "delete" else f"?command={method}")
    verb = "DELETE" if method == "delete" else "POST"

    assert [call(verb, target, user="checker").status for _ in range(2)] == [200, 404]


def test_a_command_that_cannot_work_is_refused_to_its_maker(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set(maker_checker=True)

    assert call("POST", REPAY.format(999), FIVE).status == 404
    assert call("GET", "makercheckers").json == []
