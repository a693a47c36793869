"""What stands in a store is read by older and newer versions, and back as it was."""

import dataclasses
import json

import pytest

from breaker.engine.machine import Force, State, newborn
from breaker.engine.policy import Policy
from breaker.engine.stores.base import (
    Registration,
    Window,
    decode,
    decode_registration,
    encode,
    encode_registration,
)

SNAPSHOT = dataclasses.replace(
    newborn(7),
    generation=3,
    state=State.HALF_OPEN,
    force=Force.CLOSED,
    force_until=11,
    switch=True,
    switch_until=12,
    act_at=5,
    why={"trial": "failure"},
)


def test_a_snapshot_is_read_back_as_it_was() -> None:
    assert decode(encode(SNAPSHOT), rev="r", seq=9) == dataclasses.replace(SNAPSHOT, rev="r", seq=9)
    assert decode(encode(newborn(7)), rev="r", seq=9).force is None


def test_the_words_in_a_store_are_those_that_are_shown() -> None:
    fields = json.loads(encode(SNAPSHOT))
    assert (fields["state"], fields["force"], fields["generation"], fields["since"]) == ("HALF_OPEN", "closed", 3, 7)
    assert "rev" not in fields
    assert "seq" not in fields


def test_fields_of_a_newer_version_are_passed_over() -> None:
    newer = json.dumps({**json.loads(encode(SNAPSHOT)), "mood": "good"})
    assert decode(newer, rev="r", seq=9) == dataclasses.replace(SNAPSHOT, rev="r", seq=9)


@pytest.mark.parametrize("data", ["{}", "[]", "7", '{"state": "AJAR"}', "not JSON"])
def test_what_is_no_snapshot_is_refused(data: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        decode(data, rev="r", seq=9)


def test_a_registration_is_read_back_as_it_was_and_options_of_a_newer_version_are_passed_over() -> None:
    one = Registration(name="x", labels={"service": "S"}, policy=Policy(timeout=5, capacity=3))
    assert decode_registration("x", encode_registration(one)) == one
    fields = json.loads(encode_registration(one))
    fields["policy"]["mood"] = "good"
    assert decode_registration("x", json.dumps(fields)) == one


def test_a_window_is_so_many_buckets_of_which_the_newest_holds_now() -> None:
    window = Window.of(Policy(rolling_count_timeout=60, rolling_count_buckets=3))
    assert (window, window.length_ms) == (Window(20_000, 3), 60_000)
    assert [*window.numbers(100_000)] == [3, 4, 5]
    assert [*window.numbers(99_999)] == [2, 3, 4]
