"""Rules that deny and allow routes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifos_gateway import targets
from mifos_gateway.routes import DEFAULT_DENIED, RouteError, Rule, Rules

DENIED = Rules(DEFAULT_DENIED)


def is_denied(raw: str, method: str = "GET", rules: Rules = DENIED) -> bool:
    return rules.match(method, targets.parse(raw).path)


@pytest.mark.parametrize(
    "raw",
    [
        "users",
        "users/",
        "users/1",
        "USERS",
        "Users/1",
        "%75sers",
        "%55SERS",
        "v1/users",
        "V1/users",
        "v2/users",
        "api/v1/users",
        "API/v1/users",
        "users?fields=id",
        "users;x=1/2",
        "users%3bx=1",
        "v1;x=1/users",
        "self/clients",
        "batches",
        "batches?enclosingTransaction=true",
        "internal/x",
        "jobs/1",
        "configurations",
        "externalservice/S3",
        "authentication",
    ],
)
def test_fineracts_administration_is_denied_however_it_is_spelt(raw: str) -> None:
    assert is_denied(raw, "POST")


@pytest.mark.parametrize("raw", ["clients", "clients/users", "offices/1", "selfservice", "loans/1/transactions"])
def test_what_is_not_named_is_not_denied(raw: str) -> None:
    assert not is_denied(raw)


def test_a_star_reaches_over_slashes() -> None:
    assert is_denied("loans/1/transactions/2", rules=Rules(["* loans*"]))


def test_a_pattern_is_the_whole_path() -> None:
    assert not is_denied("clients/1", rules=Rules(["* clients"]))


def test_a_rule_is_for_its_method() -> None:
    rules = Rules(["DELETE clients/*"])

    assert [is_denied("clients/1", method, rules) for method in ("DELETE", "GET")] == [True, False]


def test_a_rule_for_get_covers_head() -> None:
    assert is_denied("clients", "HEAD", Rules(["GET clients"]))


@pytest.mark.parametrize("text", ["* /api/v1/Clients/", "* v1/clients", "* /clients", "*  clients "])
def test_a_pattern_may_be_written_like_a_path(text: str) -> None:
    assert is_denied("clients", rules=Rules([text]))


def test_no_rules_match_nothing() -> None:
    assert not is_denied("users", rules=Rules([]))


@pytest.mark.parametrize("text", ["", "users", "*", "* ", "* /", "FETCH users", "users *", "POST loans?command=x"])
def test_a_bad_rule_says_what_a_rule_looks_like(text: str) -> None:
    with pytest.raises(RouteError, match="write"):
        Rule.parse(text)


@given(st.sampled_from(["users", "batches", "self/x"]), st.data())
def test_no_mix_of_case_and_escapes_passes_by_a_denial(name: str, data: st.DataObject) -> None:
    spelt = ""
    for letter in name:
        letter = data.draw(st.sampled_from([letter, letter.upper()]))
        spelt += data.draw(st.sampled_from([letter, f"%{ord(letter):02x}"])) if letter != "/" else letter
    prefix = data.draw(st.sampled_from(["", "v1/", "v2/", "api/v1/", "API/V1/"]))
    suffix = data.draw(st.sampled_from(["", "/", ";a=b", "/1", "?x=1"]))

    assert is_denied(prefix + spelt + suffix)
