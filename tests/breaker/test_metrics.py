"""What Prometheus is told of the breakers, and that no counter ever goes back."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import prometheus_client
import pytest
from django.db import OperationalError
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily

from breaker import conf, history, operations, totals
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.sync import Sync
from breaker.engine.window import DURATIONS
from breaker.metrics import BreakerCollector, Labels, render
from breaker.models import RunningTotals
from breaker.registry import Labels as BreakerLabels
from breaker.registry import create_circuit_breaker, registry
from breaker.testing import fail, rejected, succeed
from tests.acceptance.gateway import CHECKOUT
from tests.breaker.conftest import House
from tests.prometheus import Scrape, fallen

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _keeps(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BREAKER = {**settings.BREAKER, "HISTORY": True}


def scrape(*, as_openmetrics: bool = False) -> Scrape:
    text = render([BreakerCollector()], as_openmetrics=as_openmetrics).decode()
    return Scrape(text, as_openmetrics=as_openmetrics)


def make(name: str = "x", *, labels: Any = None, **options: Any) -> SharedCircuitBreaker:
    return create_circuit_breaker(name=name, labels=labels, **options).breaker


def act(name: str, action: str, **more: Any) -> None:
    (done,) = operations.act([name], action, actor="ada", source="command", reason="a test", **more)
    assert not done.error


def another_process(house: House) -> None:
    """As if another worker answered: it has told nothing yet."""
    totals.teller.after_fork()


def empty(house: House) -> None:
    """Redis comes back without its data."""
    house.store._empty()
    house.advance(1)


# -- values ------------------------------------------------------------------------------------------------------------


def test_a_breaker_is_told_by_its_labels(house: House) -> None:
    make("MIFOS-Maker-get", labels=BreakerLabels(service="MIFOS", group="maker", key="get"))
    make("own")
    labels = [one.labels for one in scrape().all("breaker_disabled")]
    assert labels == [
        {"breaker": "MIFOS-Maker-get", "client": "maker", "method": "get"},
        {"breaker": "own", "client": "", "method": ""},
    ]


def test_one_state_of_three_is_1(house: House) -> None:
    breaker = make()
    house.beat()
    assert states() == {"closed": 1, "open": 0, "half_open": 0}
    fail(breaker, times=5)
    assert states() == {"closed": 0, "open": 1, "half_open": 0}
    house.advance(61)
    assert states() == {"closed": 0, "open": 0, "half_open": 1}


def states() -> dict[str, float]:
    return {one.labels["state"]: one.value for one in scrape().all("breaker_state", breaker="x")}


def test_calls_of_all_processes_are_counted_by_outcome(house: House) -> None:
    here, there = make(), house.elsewhere("x")
    succeed(here, times=2)
    fail(there)
    fail(here, error=TimeoutError)
    fail(here)
    assert rejected(here)
    house.beat()
    found = scrape()
    calls = {one.labels["outcome"]: one.value for one in found.all("breaker_calls_total", breaker="x")}
    assert calls == {"success": 2, "failure": 2, "timeout": 1, "reject": 1}
    assert found.value("breaker_fallbacks_total") == 1


def test_fallbacks_of_failed_calls_count_too(house: House) -> None:
    guarded = create_circuit_breaker(lambda: 1 / 0, name="x", fallback=lambda: "instead")
    guarded()
    house.beat()
    assert scrape().value("breaker_fallbacks_total") == 1


def test_changes_are_told_from_what_to_what(house: House) -> None:
    breaker = make(reset_timeout=1)
    house.beat()
    assert set(changes().values()) == {0}
    fail(breaker, times=5)
    house.advance(2)
    succeed(breaker)
    house.beat()
    assert changes() == {
        ("closed", "open"): 1,
        ("open", "half_open"): 1,
        ("half_open", "closed"): 1,
        ("half_open", "open"): 0,
    }


def test_an_operators_change_is_one_like_any_other(house: House) -> None:
    make()
    house.beat()
    act("x", "open")
    act("x", "reset")
    assert (changes()["closed", "open"], changes()["open", "closed"]) == (1, 1)


def changes() -> dict[tuple[str, str], float]:
    found = scrape().all("breaker_transitions_total", breaker="x")
    return {(one.labels["from"], one.labels["to"]): one.value for one in found}


def test_the_time_spent_open_counts_on_while_it_is_open(house: House) -> None:
    breaker = make()
    house.beat()
    fail(breaker, times=5)
    house.advance(30)
    while_open = scrape().value("breaker_open_seconds_total")
    house.advance(40)
    assert while_open == pytest.approx(30, abs=0.5)
    assert scrape().value("breaker_open_seconds_total") == pytest.approx(60, abs=0.5)


def test_the_time_of_calls_is_a_histogram(house: House) -> None:
    breaker = make()
    for seconds in (0.02, 0.3, 100.0):
        permit = breaker.admit()
        house.clock.advance(seconds)
        permit.settle(None, None)
    assert rejected(force_open(breaker))
    house.beat()
    found = scrape()
    buckets = {one.labels["le"]: one.value for one in found.all("breaker_call_duration_seconds_bucket")}
    assert list(map(float, buckets)) == [*DURATIONS, float("inf")]
    assert [buckets[le] for le in ("0.01", "0.025", "0.25", "0.5", "60.0", "+Inf")] == [0, 1, 1, 2, 2, 3]
    assert found.value("breaker_call_duration_seconds_count") == 3
    assert found.value("breaker_call_duration_seconds_sum") == pytest.approx(100.32, rel=1e-4)


def force_open(breaker: SharedCircuitBreaker) -> SharedCircuitBreaker:
    act(breaker.name, "open")
    return breaker


def test_a_breaker_without_percentiles_has_a_mean_all_the_same(house: House) -> None:
    succeed(make(rolling_percentiles_enabled=False), times=2)
    house.beat()
    found = scrape()
    assert [one.labels["le"] for one in found.all("breaker_call_duration_seconds_bucket")] == ["+Inf"]
    assert found.value("breaker_call_duration_seconds_count") == 2


def test_the_error_ratio_is_the_one_that_decides_and_absent_without_a_call(house: House) -> None:
    breaker = make(volume_threshold=100)
    house.beat()
    assert scrape().all("breaker_error_ratio") == []
    succeed(breaker, times=3)
    fail(breaker)
    assert rejected(force_open(breaker))
    house.beat()
    found = scrape()
    assert (found.value("breaker_error_ratio"), found.value("breaker_window_calls")) == (0.25, 4)


def test_settings_are_told(house: House) -> None:
    make(
        timeout=20,
        error_threshold_percentage=40,
        reset_timeout=15,
        rolling_count_timeout=30,
        rolling_count_buckets=5,
        volume_threshold=7,
    )
    house.beat()
    found = scrape()
    told = {name: found.value(f"breaker_{name}") for name in SETTINGS}
    assert told == SETTINGS


SETTINGS = {
    "timeout_seconds": 20,
    "error_threshold_ratio": 0.4,
    "reset_timeout_seconds": 15,
    "window_seconds": 30,
    "volume_threshold": 7,
}


@pytest.mark.parametrize(
    ("action", "told"),
    [("open", (1, 0, 0)), ("close", (0, 1, 0)), ("disable", (0, 0, 1)), ("reset", (0, 0, 0))],
)
def test_what_an_operator_said_is_told(house: House, action: str, told: tuple[int, int, int]) -> None:
    make()
    house.beat()
    act("x", action)
    found = scrape()
    forced = [found.value("breaker_forced", state=state) for state in ("open", "closed")]
    assert (*forced, found.value("breaker_disabled")) == told


def test_a_trial_is_in_flight_while_it_runs(house: House) -> None:
    breaker = make(reset_timeout=1)
    house.beat()
    fail(breaker, times=5)
    house.advance(2)
    before = scrape().value("breaker_trial_in_flight")
    permit = breaker.admit()
    during = scrape().value("breaker_trial_in_flight")
    permit.settle(None, None)
    assert (before, during, scrape().value("breaker_trial_in_flight")) == (0, 1, 0)


def test_the_stores_health_is_told(house: House) -> None:
    make()
    house.beat()
    found = scrape()
    assert (found.value("breaker_store_up"), found.value("breaker_workers")) == (1, 2)
    assert found.value("breaker_store_snapshot_age_seconds") == found.value("breaker_store_sync_seconds") == 0
    assert found.value("breaker_store_lost_counts_total") == 0


def test_counts_that_waited_too_long_are_told_as_lost_and_counted_all_the_same(house: House) -> None:
    breaker = make()
    house.beat()
    house.lose_store()
    succeed(breaker, times=3)
    house.beat()
    house.clock.advance(3 * 3600)
    house.beat()
    house.cable.cut = False
    house.advance(3)
    found = scrape()
    assert found.value("breaker_store_lost_counts_total") == 3
    assert found.value("breaker_calls_total", outcome="success") == 3


# -- what is away ------------------------------------------------------------------------------------------------------


def test_without_the_store_a_process_tells_its_own_state_and_no_counters(house: House) -> None:
    breaker = make()
    succeed(breaker)
    house.beat()
    assert scrape().counters()
    house.lose_store()
    fail(breaker, times=4)
    house.advance(0.25)
    found = scrape()
    assert (found.value("breaker_store_up"), found.value("breaker_state", state="open")) == (0, 1)
    assert found.value("breaker_store_snapshot_age_seconds") > 1
    assert found.counters() == {}


def test_without_any_store_a_process_tells_all_of_its_own(alone: Sync) -> None:
    breaker = make()
    fail(breaker, times=5)
    alone.beat()
    found = scrape()
    assert found.value("breaker_calls_total", outcome="failure") == 5
    assert found.value("breaker_transitions_total", **{"from": "closed", "to": "open"}) == 1
    assert found.all("breaker_store_up") == []
    assert found.value("breaker_workers") == 1


def test_a_database_that_is_away_takes_the_counters_of_what_is_new_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(make("old"))
    house.beat()
    scrape()
    monkeypatch.setattr(totals, "_kept", lambda names, **_: raise_operational_error())
    succeed(make("new"))
    house.beat()
    found = scrape()
    assert [one.labels["breaker"] for one in found.all("breaker_open_seconds_total")] == ["old"]
    assert len(found.all("breaker_disabled")) == 2


def raise_operational_error() -> Any:
    raise OperationalError("gone")


def test_a_database_that_hangs_is_waited_for_a_moment(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    succeed(make())
    house.beat()
    hangs = threading.Event()
    monkeypatch.setattr(house.here, "has_threads", True)
    monkeypatch.setattr(totals, "_kept", lambda names, **_: hangs.wait(10) and {})
    monkeypatch.setattr(totals, "PATIENCE", 0.01)
    try:
        assert scrape().all("breaker_calls_total") == []
    finally:
        hangs.set()
        totals.teller._founder._thread.join(5)  # type: ignore[union-attr]


def test_what_was_told_while_the_database_was_away_is_stored_when_it_is_back(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = make()
    succeed(breaker)
    house.beat()
    scrape()
    with monkeypatch.context() as broken:
        broken.setattr(totals, "_kept", lambda names, **_: raise_operational_error())
        succeed(breaker)
        house.beat()
        scrape()
        scrape()
    assert RunningTotals.objects.get(name="x").counts["s"] == 1
    scrape()
    assert RunningTotals.objects.get(name="x").counts["s"] == 2
    assert [record.message for record in caplog.records if "metrics" in record.message] == [
        "What metrics tell is not stored (OperationalError)"
    ]


# -- no way back -------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(house: House) -> Scrape:
    """After calls, a transition, a reject and a scrape."""
    breaker = make(reset_timeout=5)
    house.beat()
    fail(breaker, times=5)
    assert rejected(breaker)
    house.advance(2)
    before = scrape()
    assert before.value("breaker_calls_total", outcome="failure") == 5
    return before


def test_a_reset_takes_nothing_back(house: House, told: Scrape) -> None:
    act("x", "reset")
    house.advance(120)
    assert fallen(told, scrape()) == []


@pytest.mark.parametrize("answers", ["who told", "another process"])
def test_a_store_that_was_emptied_takes_nothing_back(house: House, told: Scrape, answers: str) -> None:
    empty(house)
    if answers == "another process":
        another_process(house)
    after = scrape()
    assert fallen(told, after) == []
    assert after.value("breaker_calls_total", outcome="failure") == 5
    succeed(force_closed("x"), times=2)
    house.beat()
    assert scrape().value("breaker_calls_total", outcome="success") == 2


def force_closed(name: str) -> SharedCircuitBreaker:
    act(name, "close")
    return registry.circuits[name]


def test_what_is_counted_before_a_store_is_founded_is_not_lost(house: House, told: Scrape) -> None:
    empty(house)
    succeed(force_closed("x"), times=3)
    house.beat()
    after = scrape()
    assert (fallen(told, after), after.value("breaker_calls_total", outcome="success")) == ([], 3)


def test_a_store_that_is_older_takes_nothing_back(house: House, told: Scrape) -> None:
    house.store._totals["x"].update(s=0, f=2)
    assert fallen(told, scrape()) == []
    another_process(house)
    assert fallen(told, scrape()) == []


def test_an_emptied_store_tells_no_counters_until_the_database_says_what_was_told(
    house: House, told: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(house)
    with monkeypatch.context() as broken:
        broken.setattr(totals, "_kept", lambda names, **_: raise_operational_error())
        assert scrape().all("breaker_calls_total") == []
    assert fallen(told, scrape()) == []


def test_the_open_time_that_runs_is_not_told_twice(house: House, told: Scrape) -> None:
    before = told.value("breaker_open_seconds_total")
    empty(house)
    scrape()
    house.advance(1)
    assert before <= scrape().value("breaker_open_seconds_total") <= before + 2.5


def test_a_breaker_that_comes_back_after_days_goes_on(house: House, told: Scrape) -> None:
    house.store._totals.pop("x")
    house.store._founded.discard("x")
    another_process(house)
    assert fallen(told, scrape()) == []


def test_scrapes_that_tell_nothing_new_write_nothing(
    house: House, told: Scrape, django_assert_num_queries: Callable[..., Any]
) -> None:
    act("x", "reset")
    scrape()
    with django_assert_num_queries(0):
        scrape()


def test_rows_never_become_less(house: House, told: Scrape) -> None:
    RunningTotals.objects.filter(name="x").update(counts={"s": 50})
    house.advance(1)
    scrape()
    row = RunningTotals.objects.get(name="x").counts
    assert (row["s"], row["f"]) == (50, 5)


def test_rows_go_with_what_history_keeps_no_longer(house: House, told: Scrape, settings: Any) -> None:
    settings.BREAKER = {**settings.BREAKER, "HISTORY_HOUR_DAYS": 400}
    old = RunningTotals.objects.create(namespace=conf.namespace(), name="gone")
    RunningTotals.objects.filter(pk=old.pk).update(at=timezone.now() - timedelta(days=401))
    history.prune(registry.sync.now())
    assert {row.name for row in RunningTotals.objects.all()} == {"x", "@store"}


# -- without prometheus_client -----------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "breaker"])
django.setup()
from breaker.registry import create_circuit_breaker
print(create_circuit_breaker(lambda: "guarded", name="x")())
"""


def test_the_app_does_without_prometheus_client() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
    assert (done.stdout, done.stderr) == ("guarded\n", "")


# -- as text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_openmetrics", [False, True])
def test_both_formats_say_the_same_as_prometheus_clients_own(house: House, as_openmetrics: bool) -> None:
    labels = BreakerLabels(group='quo"te\\back\nline', key="get")
    succeed(make("MIFOS", labels=labels))
    house.beat()
    ours = scrape(as_openmetrics=as_openmetrics)
    format_ = prometheus_client.openmetrics.exposition if as_openmetrics else prometheus_client.exposition
    theirs = Scrape(format_.generate_latest(BreakerCollector()).decode(), as_openmetrics=as_openmetrics)  # type: ignore[attr-defined]
    assert ours.samples == theirs.samples
    assert [(one.name, one.type, one.documentation) for one in ours.families] == [
        (one.name, one.type, one.documentation) for one in theirs.families if one.samples
    ]


def test_labels_with_one_more_are_written_as_they_are_read() -> None:
    assert Labels(a="1").beside("b", "2").text == Labels(a="1", b="2").text == 'a="1",b="2"'
    assert Labels().beside("b", "2").text == 'b="2"'


def test_a_collector_of_others_is_written_too() -> None:
    class Theirs:
        def collect(self) -> Any:
            gauge = GaugeMetricFamily("depth", "how deep", labels=["status"])
            gauge.add_metric(['a"b'], 1.5)
            yield gauge

    assert render([Theirs()]) == b'# HELP depth how deep\n# TYPE depth gauge\ndepth{status="a\\"b"} 1.5\n'
