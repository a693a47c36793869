"""What callers say of answers that were kept."""

from __future__ import annotations

import pytest

from mifos_gateway.cache_control import UNSAID, CacheControl

BOUND = 600


def limit(said: str) -> float:
    return CacheControl.parse(said).stale_limit(BOUND)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", BOUND),
        ("max-stale", BOUND),
        ("max-stale=300", 300),
        ("Max-Stale = 300", 300),
        ('max-stale="300"', 300),
        ("max-stale=99999", BOUND),
        ("stale-if-error=200", 200),
        ("max-stale=100, stale-if-error=200", 200),
        ("max-age=30", 30),
        ("max-age=30, max-stale=100", 130),
        ("max-age=30,max-stale", BOUND),
        ("max-age=0", 0),
        ("no-cache", -1),
        ("no-store, max-stale=300", -1),
        ("max-stale=soon", 0),
        ("max-age=-5", 0),
        ("private, x=1", BOUND),
        ("max-age=10, max-age=1000", 10),
        ("max-stale=10, max-stale", 10),
        ("max-age=30, min-fresh=10", 20),
        ("max-age=30, min-fresh=10, max-stale=5", 25),
    ],
)
def test_how_old_an_answer_may_be_while_there_is_none(said: str, expected: float) -> None:
    assert limit(said) == expected


@pytest.mark.parametrize(
    ("said", "age", "takes"),
    [
        ("", 0, False),
        ("max-age=30", 30, True),
        ("max-age=30", 30.1, False),
        ("max-age=30, min-fresh=10", 20, True),
        ("max-age=30, min-fresh=10", 21, False),
        ("max-age=30, no-cache", 1, False),
        ("max-age=30, no-store", 1, False),
        ("max-age=soon", 1, False),
        ("max-age=30, min-fresh=soon", 1, False),
        ("max-age=1000, max-age=10", 11, False),
        ("max-stale=30", 1, False),
    ],
)
def test_what_will_do_without_a_call(said: str, age: float, takes: bool) -> None:
    assert CacheControl.parse(said).takes_fresh(age) is takes


def test_what_is_asked_for_alone() -> None:
    assert CacheControl.parse("only-if-cached, max-stale=5").only_if_cached
    assert CacheControl.parse("no-store").no_store
    assert CacheControl.parse(",,=;,") == UNSAID
