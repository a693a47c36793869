"""What MIFOS gets as `Idempotency-Key`."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mifos_gateway import targets
from mifos_gateway.idempotency import _digest, key_for_mifos
from mifos_gateway.refusals import InvalidIdempotencyKey

CALL: dict[str, Any] = {"consumer": "shop", "client": "maker", "method": "POST", "raw": False}


def key(key: str = "k1", target: str = "clients", **call: Any) -> str:
    return key_for_mifos(key, target=targets.parse(target), **{**CALL, **call})


def test_the_digest_fits_into_mifoss_column() -> None:
    assert len(key("k" * 255)) <= 50


def test_the_same_call_has_the_same_key() -> None:
    assert key() == key()


@pytest.mark.parametrize("target", ["api/v1/clients", "v1/clients", "clients/"])
def test_spellings_of_one_path_have_the_same_key(target: str) -> None:
    assert key(target=target) == key()


@pytest.mark.parametrize(
    "other",
    [
        {"key": "k2"},
        {"target": "loans"},
        {"target": "clients?command=activate"},
        {"target": "v2/clients"},
        {"target": "CLIENTS"},
        {"consumer": "shop2"},
        {"client": "checker"},
        {"method": "PUT"},
    ],
)
def test_any_difference_makes_another_key(other: dict[str, str]) -> None:
    assert key(**other) != key()


parts = st.lists(st.text("a1:"), min_size=5, max_size=5).map(tuple)


@given(parts, parts)
@example(("a", "aa", "", "", ""), ("aa", "a", "", "", ""))
def test_no_two_calls_run_into_each_other(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert len({_digest(*one), _digest(*other)}) == len({one, other})


def test_a_raw_key_passes_as_it_is() -> None:
    assert key("as-it-is", raw=True) == "as-it-is"


@pytest.mark.parametrize(
    ("text", "raw"),
    [("", False), ("  ", False), ("k" * 256, False), ("é", False), ("k" * 51, True), ("a,b", False), ("a, b", True)],
)
def test_a_key_that_cannot_be_used_is_refused(text: str, raw: bool) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        key(text, raw=raw)
