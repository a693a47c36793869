"""Which writes may be deferred, in which order they belong, and what a caller prefers."""

from __future__ import annotations

from typing import Any

import pytest

from mifos_gateway import targets
from mifos_gateway.fallbacks import Deferred
from mifos_gateway.outbox import orders, rules
from mifos_gateway.outbox.preferences import Preference
from mifos_gateway.outbox.rules import DeferredRule
from mifos_gateway.refusals import InvalidOrderKey
from mifos_gateway.routes import RouteError

# -- rules -------------------------------------------------------------------------------------------------------------


def deferred(method: str, target: str, **more: Any) -> bool:
    return rules.deferred_of(method, targets.parse(target), **more) is not None


@pytest.mark.parametrize(
    ("rule", "method", "target", "fits"),
    [
        ("POST clients", "POST", "clients", True),
        ("POST clients", "POST", "v1/clients", True),
        ("POST clients", "POST", "Clients", True),
        ("post /api/v1/clients/", "POST", "clients", True),
        ("POST clients", "PUT", "clients", False),
        ("POST clients", "POST", "clients/5", False),
        ("* clients/*", "PATCH", "clients/5", True),
        ("* clients/*", "DELETE", "clients/5", True),
        ("* clients/*", "GET", "clients/5", False),
        ("POST loans/*", "POST", "loans/5/transactions?command=repayment", True),
        ("POST loans/*", "POST", "loans/5?command=approve", False),
        ("POST loans/*", "POST", "loans/5?COMMAND=Approve", False),
        ("POST loans/*", "POST", "loans/5?command=disburse&command=approve", False),
        ("POST loans/*", "POST", "loans/5?command=disburse&command=disburse", False),
        ("POST loans/*?command=disburse", "POST", "loans/5?command=disburse", True),
        ("POST loans/*?command=disburse", "POST", "loans/5?x=1&command=disburse", True),
        ("POST loans/*?command=disburse", "POST", "loans/5?command=Disburse", False),
        ("POST loans/*?command=disburse", "POST", "loans/5?command=disburseToSavings", False),
        ("POST loans/*?command=disburse", "POST", "loans/5", False),
        ("POST loans/*?command=approve", "POST", "loans/5?command=approve", True),
        ("POST loans/*?command=approve", "POST", "loans/5?command=disburse", False),
        ("POST loans/?/charges", "POST", "loans/5/charges", True),
        ("POST *", "POST", "loans?command=calculateLoanSchedule", False),
        ("POST *", "POST", "search/advance", False),
        ("POST *", "POST", "batches", False),
        ("POST *", "POST", "makercheckers/5?command=reject", False),
        ("DELETE *", "DELETE", "makercheckers/5", False),
        ("POST *", "POST", "clients/5/images", False),
        ("POST *", "POST", "paymenttypes", False),
        ("POST *", "POST", "staffing", False),  # rather too little than twice
    ],
)
def test_a_rule_names_writes_that_mifos_does_not_do_twice(
    settings: Any, rule: str, method: str, target: str, fits: bool
) -> None:
    settings.GATEWAY = {"DEFERRED_ROUTES": [rule]}
    assert deferred(method, target) is fits


def test_the_first_rule_that_fits_says_for_how_long(settings: Any) -> None:
    settings.GATEWAY = {"DEFERRED_ROUTES": {"POST loans/5": 60, "POST loans/*": None, "POST *": Deferred(7)}}
    found = [rules.deferred_of("POST", targets.parse(path)) for path in ("loans/5", "loans/6", "clients")]
    assert [one.seconds for one in found if one] == [60, 3600, 7]


@pytest.mark.parametrize("given", [{}, [], ()])
def test_nothing_is_deferred_unless_it_is_named(settings: Any, given: Any) -> None:
    settings.GATEWAY = {"DEFERRED_ROUTES": given}
    assert not rules.any_named()
    assert not deferred("POST", "clients")


def test_uploads_have_no_key_and_a_safe_route_needs_none(settings: Any) -> None:
    settings.GATEWAY = {"DEFERRED_ROUTES": ["POST clients"]}
    assert not deferred("POST", "clients", content_type="Multipart/Form-Data; boundary=x")
    settings.GATEWAY = {"DEFERRED_ROUTES": {"POST clients": Deferred(safe=True)}}
    assert deferred("POST", "clients", content_type="multipart/form-data; boundary=x")


@pytest.mark.parametrize(
    "rule", ["clients", "POST", "GET clients", "HEAD clients", "POST loans?x=1", "POST loans?command=a&x=1", ""]
)
def test_a_rule_that_cannot_be_read_is_refused_with_its_text(rule: str) -> None:
    with pytest.raises(RouteError) as refused:
        DeferredRule.parse(rule)
    assert repr(rule) in str(refused.value)


def test_no_time_to_live_is_beyond_mifoss_own_memory(settings: Any) -> None:
    settings.GATEWAY = {"MIFOS_PURGE_DAYS": 1}
    assert Deferred(7 * 86_400).seconds == 86_400


@pytest.mark.parametrize("ttl", [0, -1, True, "60", float("nan")])
def test_a_time_to_live_is_seconds(ttl: Any) -> None:
    with pytest.raises(ValueError, match="seconds, more than 0"):
        Deferred(ttl)


# -- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("clients", ""),
        ("loans/5", "loans/5"),
        ("loans/005/transactions/7?command=undo", "loans/5"),
        ("loans/0", "loans/0"),
        ("v2/loans/5", "loans/5"),
        ("loans/external-id/0a/charges", "loans/external-id/0a"),
        ("loans/External-Id/x", "loans/external-id/x"),
        ("loans/external-id", "loans/external-id"),
        ("datatables/dt_x/5", "datatables/dt_x"),
        ("x/" + "y" * 300, "x/" + "y" * 253),
    ],
)
def test_a_write_belongs_to_its_resource(target: str, key: str) -> None:
    assert orders.default_key(targets.parse(target)) == key


def test_nobodys_order_is_anothers() -> None:
    asked = [("maker", "shop", False), ("checker", "shop", False), ("maker", "shop", True), ("maker", "bank", True)]
    asked += [("maker", "maker", True), ("maker", "", True)]
    found = {orders.of("x", client=client, consumer=name, is_own=own) for client, name, own in asked}
    assert len(found) == len(asked)
    assert orders.of("x", client="maker", consumer="bank", is_own=False) in found  # a resource's is all consumers'
    assert orders.of("", client="maker", consumer="shop", is_own=True) == ""


@pytest.mark.parametrize("key", ["", "  ", "é", "a\nb", "x" * 256])
def test_a_bad_order_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidOrderKey):
        orders.checked(key)


def test_an_order_key_is_without_outer_blanks() -> None:
    assert orders.checked(" family 7 ") == "family 7"


# -- Prefer, RFC 7240 --------------------------------------------------------------------------------------------------

ASKED, NOW, NO = Preference(True), Preference(True, True), Preference()


@pytest.mark.parametrize(
    ("header", "preference"),
    [
        ("respond-async", ASKED),
        ("Respond-ASYNC", ASKED),
        ("respond-async, wait=0", NOW),
        ("wait=0,respond-async", NOW),
        ('respond-async , wait = "0"', NOW),
        ("respond-async; x=1, wait=0; y", NOW),
        ("respond-async, wait=10", ASKED),
        ("respond-async, wait", ASKED),
        ("respond-async, wait=", ASKED),
        ("respond-async, wait=10, wait=0", ASKED),  # the first holds
        ("respond-async, wait=0, wait=10", NOW),
        ("return=minimal, respond-async", ASKED),
        (", ,respond-async,,", ASKED),
        ('respond-async=""', ASKED),
        ("wait=0", NO),
        ("", NO),
        ("return=representation; respond-async", NO),  # a parameter of another
        ("respond-asynchronously", NO),
        ('x="a, respond-async, b"', NO),
        ('x="a \\", respond-async", wait=0', NO),
        ('x="a, wait=0", respond-async', ASKED),
        ('x="never closed, respond-async', NO),
    ],
)
def test_a_preference_is_read_as_rfc_7240_has_it(header: str, preference: Preference) -> None:
    assert Preference.parse(header) == preference


def test_what_was_applied_is_told() -> None:
    assert [str(one) for one in (ASKED, NOW, NO)] == ["respond-async", "respond-async, wait=0", ""]
