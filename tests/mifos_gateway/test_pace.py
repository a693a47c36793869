"""How fast a backlog is sent: it begins slowly, rises while all goes well, and begins anew when it does not."""

from __future__ import annotations

import pytest

from mifos_gateway.outbox.pace import Pace


def sent(pace: Pace, *, begin: float, seconds: int, goes_well: bool = True) -> list[int]:
    """How many in each second, by who looks twenty times a second and sends all that it may."""
    counts = []
    for second in range(seconds):
        count = 0
        for look in range(20):
            moment = begin + second + look / 20
            allowed = pace.allowed(moment)
            pace.took(allowed)
            count += allowed
            if allowed:
                (pace.went_well if goes_well else pace.went_wrong)(moment)
        counts.append(count)
    return counts


def test_it_begins_with_one_a_second_and_rises_to_the_rate() -> None:
    counts = sent(Pace(20, 0), begin=0, seconds=12)
    assert counts[0] <= 2
    assert counts == sorted(counts)
    assert counts[-2:] == [20, 20]


@pytest.mark.parametrize(("most", "first"), [(0.5, 0.5), (5, 1), (20, 1), (400, 20)])
def test_it_begins_with_a_twentieth_of_a_high_rate(most: float, first: float) -> None:
    assert Pace(most, 0).rate == first


@pytest.mark.parametrize("most", [20, 400])
def test_it_is_at_the_top_within_ten_seconds(most: float) -> None:
    pace = Pace(most, 0)
    sent(pace, begin=0, seconds=10)
    assert pace.rate == most


def test_what_goes_wrong_sets_it_back() -> None:
    pace = Pace(400, 0)
    sent(pace, begin=0, seconds=10)
    pace.went_wrong(10)
    assert sum(sent(pace, begin=10, seconds=1, goes_well=False)) <= 21


def test_what_was_not_sent_for_long_is_not_sent_at_once() -> None:
    pace = Pace(20, 0)
    sent(pace, begin=0, seconds=12)
    assert pace.allowed(1000) == 5
