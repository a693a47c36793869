"""The short profile of the model; `make prove` runs the long one."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox.preferences import Preference
from tests.mifos_gateway.outbox.schedules import Schedule, profile

AT_LEAST = {
    "202": 300,
    "202 after a call": 30,
    "202 perhaps sent": 30,
    "leased": 150,
    "effect": 150,
    "recovered": 20,
    "somebody died": 20,
    "settled: delivered": 25,
    "settled: unknown": 8,
    "settled: processing": 1,
    "settled: rejected": 5,
    "settled too late": 20,
    "again: PROCESSED": 5,
    "again: UNDER_PROCESSING": 1,
    "key forgotten": 10,
    "retried: unknown": 5,
    "retried: expired": 10,
    "purged": 20,
    "all was well": 15,
}
"""How often the short profile must see what there is a mechanism for: without that it proves nothing of it. Its
schedules are the same in each run, until Schedule or Hypothesis changes."""


@pytest.mark.django_db
def test_what_is_promised_holds_after_every_step() -> None:
    Schedule.seen.clear()
    run_state_machine_as_test(Schedule, settings=profile(schedules=80, derandomize=True))
    assert {what: Schedule.seen[what] for what, times in AT_LEAST.items() if Schedule.seen[what] < times} == {}


@pytest.mark.django_db
def test_a_request_that_was_done_in_another_order_waits_behind_those_of_its_new_one() -> None:
    """A counter-example that was found: the key is the same, and the order is not part of what makes a request one."""
    schedule, repayment = Schedule(), "loans/5/transactions?command=repayment"
    schedule.begin(raw=False, pass_by=False)
    try:
        schedule.accepts(repayment, "shop", None, [("done", "rejected")], False)
        schedule.calls(repayment, "shop", "maker", "a", Preference(True), "family", False, "done", "answered", True)
        schedule.accepts(repayment, "shop", "a", [("done", "rejected")], False)
        schedule.delivers([("done", "answered")] * 2, 61)
        schedule.keeps_what_is_promised()
        first, again = DeferredRequest.objects.order_by("pk")
        assert (first.status, again.status) == ("delivered", "delivered")
        assert [ident[0] for ident in schedule.mifos.effects] == ["a", "c"]
        assert schedule.mifos.seen["again: PROCESSED"] == 1
    finally:
        schedule.teardown()
