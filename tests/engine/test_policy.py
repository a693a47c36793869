"""Options are validated once, each with its value and the remedy."""

import dataclasses

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


@pytest.mark.parametrize(
    "name", ["", "-a", "a b", "a" * 101, "ä", "a/b", "status", "health", "events", "Metrics", "operatoract"]
)
def test_a_bad_or_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="name="):
        check_name(name)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 3600),
        ("timeout", 0.001),
        ("error_threshold_percentage", 0),
        ("error_threshold_percentage", 100),
        ("volume_threshold", 1),
        ("volume_threshold", 1_000_000),
        ("rolling_count_buckets", 1000),
        ("rolling_count_buckets", 1),
        ("capacity", 1),
        ("capacity", None),
        ("half_open_max_calls", 2),
        ("enabled", False),
    ],
)
def test_the_ends_of_every_range_are_allowed(option: str, value: object) -> None:
    assert getattr(Policy.of({option: value}), option) == value


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("timeout", 3600.5, "timeout=3600.5: seconds, not milliseconds; at most 3600"),
        ("timeout", 0, "timeout=0: a number of seconds greater than 0 is needed"),
        ("timeout", None, "timeout=None: a number is needed"),
        ("error_threshold_percentage", 100.5, "error_threshold_percentage=100.5: a percentage from 0 to 100 is needed"),
        ("volume_threshold", 1_000_001, "volume_threshold=1000001: a whole number from 1 to 1000000 is needed"),
        ("volume_threshold", True, "volume_threshold=True: a whole number from 1 to 1000000 is needed"),
        ("rolling_count_buckets", 1001, "rolling_count_buckets=1001: at most 1000 slices"),
        ("enabled", None, "enabled=None: True or False is needed"),
        ("resetTimeout", 5, "resetTimeout: no such option; did you mean reset_timeout?"),
        (
            "colour",
            5,
            (
                "colour: no such option; there are timeout, error_threshold_percentage, reset_timeout, "
                "rolling_count_timeout, rolling_count_buckets, volume_threshold, rolling_percentiles_enabled, enabled, "
                "capacity, half_open_max_calls"
            ),
        ),
    ],
)
def test_a_message_reads_as_a_sentence(option: str, value: object, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        Policy.of({option: value})
    assert str(raised.value) == message


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Policy)])
def test_an_option_in_another_spelling_is_answered_with_ours(field: str) -> None:
    first, *others = field.split("_")
    for spelling in (first + "".join(map(str.title, others)) + "s", field.upper(), field.replace("_", "-") + "s"):
        with pytest.raises(PolicyError, match=rf"; did you mean {field}\?$"):
            Policy.of({spelling: 1})


def test_all_unknown_options_are_named_at_once() -> None:
    with pytest.raises(PolicyError, match=r"^first: .*; second: "):
        Policy.of({"first": 1, "timeout": 5, "second": 2})


def test_slices_of_ten_milliseconds_are_the_shortest() -> None:
    assert Policy(rolling_count_timeout=1, rolling_count_buckets=100).bucket_width_ms == 10
    with pytest.raises(PolicyError) as raised:
        Policy(rolling_count_timeout=1, rolling_count_buckets=101)
    assert str(raised.value) == (
        "rolling_count_buckets=101: slices of 9 ms are too short; use fewer buckets or a longer rolling_count_timeout "
        "(at least 10 ms a slice)"
    )


def test_options_are_laid_over_a_base() -> None:
    base = Policy(timeout=7, volume_threshold=9)
    assert Policy.of({"timeout": 8}, base=base) == Policy(timeout=8, volume_threshold=9)
    assert Policy.of({}) == Policy()


def test_durations_are_kept_as_seconds_with_a_fraction() -> None:
    assert isinstance(Policy(timeout=5).timeout, float)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (7, "name=7: 1 to 100 letters, digits and . _ : - are allowed, the first a letter or a digit"),
        ("a b", "name='a b': 1 to 100 letters, digits and . _ : - are allowed, the first a letter or a digit"),
        ("Health", "name='Health': reserved for an endpoint; choose another name"),
    ],
)
def test_a_refused_name_is_told_why(name: object, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        check_name(name)  # type: ignore[arg-type]
    assert str(raised.value) == message
