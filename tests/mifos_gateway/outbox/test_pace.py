"""How fast a backlog is sent; `now` is an argument."""

from __future__ import annotations

from mifos_gateway.outbox.pace import Pace


def sent(pace: Pace, since: float, seconds: float, *, each: float = 0.01) -> int:
    """How many begin within so many seconds, when all goes well and the table is full."""
    count = 0
    for tick in range(int(seconds / each)):
        now = since + tick * each
        allowed = pace.allowed(now)
        pace.took(allowed)
        if allowed:
            pace.went_well(now)
        count += allowed
    return count


def test_it_begins_with_one_and_rises_by_half_each_second() -> None:
    pace = Pace(20, 0.0)
    rates = []
    for second in range(5):
        assert sent(pace, second, 1) <= pace.rate + 1
        rates.append(pace.rate)
    assert rates == [1, 1.5, 1.5**2, 1.5**3, 1.5**4]


def test_it_never_passes_the_most() -> None:
    pace = Pace(20, 0.0)
    seconds = [sent(pace, second, 1) for second in range(30)]
    assert (pace.rate, max(seconds), seconds[-1]) == (20, 20, 20)
    assert sorted(seconds) == seconds


def test_what_was_not_taken_is_a_quarter_of_a_second_at_most() -> None:
    pace = Pace(20, 0.0)
    sent(pace, 0, 30)
    assert pace.allowed(10_000.0) == 5
    assert Pace(0.5, 0.0).allowed(10_000.0) == 1


def test_it_falls_back_to_one_when_something_goes_wrong() -> None:
    pace = Pace(20, 0.0)
    sent(pace, 0, 30)
    pace.went_wrong(30.0)
    assert [sent(pace, second, 1) for second in range(30, 33)] == [1, 1, 1]


def test_it_does_not_rise_while_all_goes_wrong() -> None:
    pace = Pace(20, 0.0)
    for second in range(100):
        pace.went_well(second + 0.4)
        pace.went_wrong(second + 0.5)
    assert pace.rate == 1


def test_less_than_one_a_second_is_possible() -> None:
    pace = Pace(0.5, 0.0)
    assert sent(pace, 0, 60) == 30


def test_a_burst_does_not_make_it_rise_faster() -> None:
    pace = Pace(1000, 0.0)
    for _ in range(1000):
        pace.went_well(1.5)
    assert pace.rate == 1.5 * 50


def test_it_begins_with_a_twentieth_of_a_high_rate_and_is_at_the_top_as_soon() -> None:
    for most in (20, 400):
        pace = Pace(most, 0.0)
        assert pace.rate == most / 20
        sent(pace, 0, 10)
        assert pace.rate == most
