"""Options are validated once, each with its value and the remedy."""

import pytest

from breaker.engine.policy import Policy, PolicyError, check_name


def test_the_defaults_are_those_of_the_options_table() -> None:
    policy = Policy()
    assert (
        policy.timeout,
        policy.error_threshold_percentage,
        policy.reset_timeout,
        policy.rolling_count_timeout,
        policy.rolling_count_buckets,
        policy.volume_threshold,
        policy.rolling_percentiles_enabled,
        policy.enabled,
        policy.capacity,
        policy.half_open_max_calls,
    ) == (30, 50, 60, 60, 10, 5, True, True, None, 1)


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("timeout", 30000, "seconds, not milliseconds"),
        ("timeout", 0, "greater than 0"),
        ("timeout", "30", "a number"),
        ("timeout", True, "a number"),
        ("timeout", float("nan"), "a number"),
        ("reset_timeout", -1, "greater than 0"),
        ("reset_timeout", 3601, "seconds, not milliseconds"),
        ("rolling_count_timeout", 60_000, "seconds, not milliseconds"),
        ("error_threshold_percentage", 101, "from 0 to 100"),
        ("error_threshold_percentage", -1, "from 0 to 100"),
        ("rolling_count_buckets", 0, "whole number"),
        ("rolling_count_buckets", 2.5, "whole number"),
        ("rolling_count_buckets", 5000, "at most 1000"),
        ("volume_threshold", 0, "whole number"),
        ("capacity", 0, "whole number"),
        ("half_open_max_calls", 0, "whole number"),
        ("enabled", "yes", "True or False"),
        ("rolling_percentiles_enabled", 1, "True or False"),
    ],
)
def test_a_bad_option_is_named_with_value_and_remedy(option: str, value: object, remedy: str) -> None:
    with pytest.raises(PolicyError) as raised:
        Policy.of({option: value})
    assert f"{option}={value!r}" in str(raised.value)
    assert remedy in str(raised.value)


def test_all_bad_options_are_named_at_once() -> None:
    with pytest.raises(PolicyError, match=r"timeout=0.*volume_threshold=-1"):
        Policy.of({"timeout": 0, "volume_threshold": -1})


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(PolicyError, match="did you mean error_threshold_percentage"):
        Policy.of({"errorThresholdPercentage": 30})


def test_slices_of_less_than_ten_milliseconds_are_refused() -> None:
    with pytest.raises(PolicyError, match="fewer buckets"):
        Policy(rolling_count_timeout=1, rolling_count_buckets=200)


@pytest.mark.parametrize("name", ["a", "MIFOS-Maker-get", "9.a_b:c", "a" * 100])
def test_a_good_name_passes(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 101, "ä", "a/b", "status", "health", "events", "Metrics"])
def test_a_bad_or_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="name="):
        check_name(name)
