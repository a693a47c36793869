"""Totals, rates and percentiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breaker.engine.window import (
    DURATIONS,
    RELATIVE_ERROR,
    Totals,
    by_name,
    named,
    running,
    slot,
    slot_seconds,
    step,
    tally,
    total,
)


def _tally(*settled: tuple[str, float, str]) -> dict[str, int]:
    return tally(settled, host="h", process="p", histogram=True)


def test_both_error_rates_of_the_documented_example() -> None:
    totals = Totals(successes=1217, failures=25, timeouts=3, rejects=5)
    assert (totals.fires, f"{totals.error_rate:.2f}", f"{totals.deciding_error_rate:.2f}") == (1250, "2.24", "2.25")


def test_an_empty_window_has_no_rate_and_no_latency() -> None:
    totals = Totals()
    assert (totals.error_rate, totals.deciding_error_rate, totals.latency_mean, totals.percentile(0.99)) == (0, 0, 0, 0)


def test_a_timeout_is_not_also_a_failure() -> None:
    totals = total([_tally(("g", 30.0, "t"))])
    assert (totals.timeouts, totals.failures, totals.fires) == (1, 0, 1)


def test_a_reject_counts_as_a_fallback_and_has_no_latency() -> None:
    totals = total([_tally(("g", 0.0, "r"))])
    assert (totals.rejects, totals.fallbacks, totals.completed, totals.histogram) == (1, 1, 0, {})


def test_one_generation_can_be_summed_alone() -> None:
    tallies = [_tally(("old", 0.1, "f"), ("new", 0.1, "s")), _tally(("new", 0.1, "f"))]
    assert total(tallies, generation="new").completed == 2
    assert total(tallies).completed == 3


def test_processes_and_hosts_that_saw_failures_are_counted() -> None:
    tallies = [
        tally([("g", 0.1, "f")], host=host, process=process, histogram=False)
        for host, process in [("a", "1"), ("a", "2"), ("b", "1")]
    ]
    totals = total(tallies)
    assert (totals.processes, totals.hosts) == (3, 2)


def test_without_the_histogram_there_are_no_percentiles() -> None:
    assert not [key for key in tally([("g", 0.1, "s")], host="h", process="p", histogram=False) if key[:2] == "h|"]


@given(st.floats(min_value=1e-5, max_value=3600))
def test_a_slot_stands_for_its_latencies_within_the_stated_error(seconds: float) -> None:
    assert slot_seconds(slot(seconds)) == pytest.approx(seconds, rel=RELATIVE_ERROR * 1.001)


@given(st.lists(st.floats(min_value=1e-5, max_value=100), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_within_the_stated_error(latencies: list[float], fraction: float) -> None:
    totals = total([_tally(*(("g", seconds, "s") for seconds in latencies))])
    rank = max(1, -int(-fraction * len(latencies) // 1))
    true = sorted(latencies)[rank - 1]
    assert totals.percentile(fraction) == pytest.approx(true, rel=RELATIVE_ERROR * 1.001)


@given(st.lists(st.floats(min_value=1e-5, max_value=100), min_size=2, max_size=100), st.integers(1, 99))
def test_histograms_merge_without_loss(latencies: list[float], where: int) -> None:
    settled = [("g", seconds, "s") for seconds in latencies]
    cut = where % len(settled)
    parts = total([_tally(*settled[:cut]), _tally(*settled[cut:])])
    assert parts.histogram == total([_tally(*settled)]).histogram


def test_a_tally_is_what_the_stores_keep() -> None:
    settled = [("g", 0.5, "s"), ("g", 0.25, "f"), ("g", 0.25, "f"), ("old", 2.0, "t"), ("g", 0.0, "r"), ("g", 0.0, "b")]
    assert tally(settled, host="h", process="p", histogram=True) == {
        "g|s": 1, "g|f": 2, "g|r": 1, "g|b": 1, "g|u": 1_000_000, "g|w|h|p": 2,
        "old|t": 1, "old|u": 2_000_000, "old|w|h|p": 1,
        f"h|{slot(0.5)}": 1, f"h|{slot(0.25)}": 2, f"h|{slot(2.0)}": 1,
    }  # fmt: skip


def test_the_failures_and_timeouts_that_a_process_saw_are_one_count() -> None:
    totals = total([_tally(("g", 0.1, "f"), ("g", 0.1, "t")), _tally(("g", 0.1, "f"))])
    assert totals.witnesses == {("h", "p"): 3}


def test_the_counts_of_one_generation_leave_the_others_out() -> None:
    tallies = [_tally(("old", 3.0, "f"), ("new", 1.0, "s"), ("new", 0.0, "r"), ("new", 0.0, "b"))]
    totals = total(tallies, generation="new")
    assert (totals.successes, totals.failures, totals.rejects, totals.fallbacks) == (1, 0, 1, 2)
    assert (totals.latency_us, totals.witnesses) == (1_000_000, {})


def test_the_mean_latency_is_of_completed_calls() -> None:
    assert total([_tally(("g", 1.0, "s"), ("g", 2.0, "t"), ("g", 0.0, "r"))]).latency_mean == pytest.approx(1.5)


def test_the_mean_latency_is_exact() -> None:
    assert Totals(successes=2, failures=1, timeouts=1, latency_us=6_000_000).latency_mean == 1.5


def test_no_two_slots_stand_for_the_same_latency() -> None:
    stands_for = [slot_seconds(index) for index in range(20)]
    assert stands_for == sorted({*stands_for})


def test_the_rate_that_is_reported_counts_every_kind_of_error() -> None:
    totals = Totals(successes=4, failures=1, timeouts=2, rejects=3)
    assert (totals.completed, totals.fires, totals.error_rate) == (7, 10, 30)


def test_a_kind_of_count_that_a_newer_version_keeps_is_passed_over() -> None:
    assert total([{"g|s": 1, "g|z": 7}]).fires == 1


def test_what_is_quicker_or_slower_than_the_histogram_has_a_slot_all_the_same() -> None:
    totals = total([_tally(("g", 0.0, "s"), ("g", 1e9, "s"))])
    assert totals.percentile(0.5) == 1e-5
    assert totals.percentile(1.0) == pytest.approx(1e5, rel=0.03)


@pytest.mark.parametrize(("fraction", "seconds"), [(0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 3)])
def test_a_percentile_is_the_least_latency_that_so_many_calls_did_not_exceed(fraction: float, seconds: int) -> None:
    totals = total([_tally(("g", 1, "s"), ("g", 1, "s"), ("g", 2, "s"), ("g", 3, "s"))])
    assert totals.percentile(fraction) == pytest.approx(seconds, rel=RELATIVE_ERROR * 1.001)


def test_history_keeps_counts_by_name_without_generations_and_witnesses() -> None:
    counted = {"a|s": 2, "b|s": 1, "a|f": 1, "a|w|host|p": 1, "a|u": 70, "b|u": 5, "h|12": 4, "b|b": 1}
    kept = named("h", counted)
    assert kept == {"s|h": 3, "f|h": 1, "u|h": 75, "h|12|h": 4, "b|h": 1}
    found = by_name(kept | named("MIFOS-Maker-get", {"c|t": 2}))
    assert (found["h"].completed, found["h"].fallbacks, found["h"].histogram) == (4, 1, {12: 4})
    assert (found["MIFOS-Maker-get"].timeouts, found["MIFOS-Maker-get"].histogram) == (2, {})


def test_running_totals_have_no_generations_and_no_witnesses() -> None:
    counted = running(_tally(("old", 0.5, "s"), ("new", 0.2, "f"), ("new", 0.0, "r"), ("new", 0.0, "b")))
    assert counted == {"s": 1, "f": 1, "r": 1, "b": 1, "u": 700_000, "h|6": 1, "h|5": 1}


@given(st.floats(min_value=0, max_value=1e6))
def test_a_latency_keeps_its_step_but_at_a_bound(seconds: float) -> None:
    near = [bound for bound in DURATIONS if abs(seconds - bound) <= RELATIVE_ERROR * bound * 2]
    folded = running(_tally(("g", seconds, "s")))
    assert near or folded[step(seconds)] == 1
