"""Status and health, as their consumers over HTTP see them."""

import re
from typing import Any

import pytest
from django.test import Client

from breaker import operations, queries
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.window import Totals
from breaker.registry import Labels, create_circuit_breaker
from breaker.testing import fail, rejected, succeed
from mifos_gateway import tokens
from tests.breaker.conftest import House

VERBS = {"get", "post", "put", "patch", "delete", "request"}
ISO_8601_Z = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
Twelve = dict[tuple[str, str], SharedCircuitBreaker]


def get(what: str, **more: Any) -> Any:
    return Client().get(f"/api/v1/circuit-breaker/{what}", **more)


def status() -> Any:
    return get("status").json()["data"]


def health() -> Any:
    return get("health").json()


def maker_get() -> Any:
    return status()["maker"]["get"]


def act(name: str, action: str, **more: Any) -> None:
    (done,) = operations.act([name], action, actor="ada", source="command", reason="a test", **more)
    assert not done.error


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_has_a_place_for_everything(twelve: Twelve) -> None:
    answer = get("status")
    assert answer.status_code == 200
    assert set(answer.json()) == {"success", "data"}
    assert answer.json()["success"] is True
    assert set(answer.json()["data"]) == {"maker", "checker", "custom", "shared", "timestamp"}


def test_status_groups_the_twelve_by_user_and_verb(twelve: Twelve) -> None:
    data = status()
    assert (set(data["maker"]), set(data["checker"]), data["custom"]) == (VERBS, VERBS, {})
    assert data["checker"]["put"]["name"] == "MIFOS-Checker-put"


def test_an_entry_has_exactly_these_fields(twelve: Twelve) -> None:
    entry = maker_get()
    assert set(entry) == {"enabled", "state", "name", "stats", "options"}
    assert (entry["enabled"], entry["state"], entry["name"]) == (True, "CLOSED", "MIFOS-Maker-get")


def test_an_entrys_options_are_milliseconds_and_whole_where_they_can_be(twelve: Twelve) -> None:
    options = maker_get()["options"]
    assert options == {
        "timeout": 30000,
        "errorThresholdPercentage": 50,
        "resetTimeout": 60000,
        "volumeThreshold": 5,
        "rollingCountTimeout": 60000,
        "rollingCountBuckets": 10,
    }
    assert {type(value) for value in options.values()} == {int}


def test_an_idle_entrys_stats_are_zeros(twelve: Twelve) -> None:
    assert maker_get()["stats"] == {
        "fires": 0,
        "successes": 0,
        "failures": 0,
        "rejects": 0,
        "timeouts": 0,
        "fallbacks": 0,
        "latencyMean": 0.0,
        "errorRate": "0.00%",
        "decidingErrorRate": "0.00%",
        "percentiles": {"p50": 0.0, "p90": 0.0, "p95": 0.0, "p99": 0.0},
    }


def test_the_two_error_rates_of_the_documented_example(house: House) -> None:
    breaker = create_circuit_breaker(name="example", rolling_count_timeout=600).breaker
    generation = breaker.snapshot.id
    outcomes = {"s": 1217, "f": 25, "t": 3, "r": 5}
    breaker.outcomes.extend((generation, 0.5, kind) for kind, times in outcomes.items() for _ in range(times))
    stats = status()["custom"]["example"]["stats"]
    counts = {key: stats[key] for key in ("fires", "successes", "failures", "rejects", "timeouts", "fallbacks")}
    assert counts == {
        "fires": 1250,
        "successes": 1217,
        "failures": 25,
        "rejects": 5,
        "timeouts": 3,
        "fallbacks": 5,
    }
    assert (stats["errorRate"], stats["decidingErrorRate"]) == ("2.24%", "2.25%")


def test_latencies_are_milliseconds(house: House) -> None:
    breaker = create_circuit_breaker(name="example").breaker
    for seconds in (0.1, 0.2, 0.3, 0.4):
        breaker.call(house.clock.advance, seconds)
    stats = status()["custom"]["example"]["stats"]
    assert stats["latencyMean"] == pytest.approx(250, abs=0.1)
    assert stats["percentiles"] == {
        "p50": pytest.approx(200, rel=0.01),
        "p90": pytest.approx(400, rel=0.01),
        "p95": pytest.approx(400, rel=0.01),
        "p99": pytest.approx(400, rel=0.01),
    }


def test_an_open_entry_says_since_when_and_for_how_long(house: House, twelve: Twelve) -> None:
    fail(twelve["maker", "get"], 5)
    house.advance(20.25)
    entry = maker_get()
    assert set(entry) == {"enabled", "state", "name", "stats", "options", "openedAt", "retryAfter"}
    assert (entry["state"], entry["retryAfter"]) == ("OPEN", 40)
    assert ISO_8601_Z.fullmatch(entry["openedAt"])
    assert entry["openedAt"] < status()["timestamp"]


def test_a_half_open_entry_says_neither(house: House, twelve: Twelve) -> None:
    fail(twelve["maker", "get"], 5)
    house.advance(60)
    entry = maker_get()
    assert entry["state"] == "HALF_OPEN"
    assert not {"openedAt", "retryAfter", "forced"} & set(entry)


def test_retry_after_is_at_least_a_second(house: House, twelve: Twelve) -> None:
    fail(twelve["maker", "get"], 5)
    house.clock.advance(59.99)
    assert maker_get()["retryAfter"] == 1


@pytest.mark.django_db
def test_an_entry_forced_open_says_so(house: House, twelve: Twelve) -> None:
    act("MIFOS-Maker-get", "open", for_seconds=7)
    entry = maker_get()
    assert (entry["state"], entry["forced"], entry["retryAfter"]) == ("OPEN", "open", 7)


@pytest.mark.django_db
def test_an_entry_forced_open_without_an_end_says_the_reset_timeout(twelve: Twelve) -> None:
    act("MIFOS-Maker-get", "open")
    assert maker_get()["retryAfter"] == 60


@pytest.mark.django_db
def test_an_entry_forced_closed_is_not_open(twelve: Twelve) -> None:
    fail(twelve["maker", "get"], 5)
    act("MIFOS-Maker-get", "close")
    entry = maker_get()
    assert (entry["state"], entry["forced"], "openedAt" in entry) == ("CLOSED", "closed", False)


@pytest.mark.django_db
def test_a_disabled_entry_says_so_over_its_force(house: House, twelve: Twelve) -> None:
    act("MIFOS-Maker-get", "open")
    act("MIFOS-Maker-get", "disable")
    entry = maker_get()
    assert (entry["enabled"], entry["state"], entry["forced"]) == (False, "CLOSED", "open")


def test_custom_breakers_stand_apart_by_name(twelve: Twelve) -> None:
    create_circuit_breaker(name="balance", labels=Labels(service="Bank"))
    assert list(status()["custom"]) == ["balance"]


def test_the_timestamp_is_iso_8601_in_utc() -> None:
    assert ISO_8601_Z.fullmatch(status()["timestamp"])


def test_it_is_shared_while_the_store_is_there(twelve: Twelve) -> None:
    assert status()["shared"] is True


def test_it_is_not_shared_while_the_store_is_away(house: House, twelve: Twelve) -> None:
    succeed(twelve["maker", "get"])
    house.lose_store()
    data = status()
    assert (data["shared"], data["maker"]["get"]["stats"]["successes"]) == (False, 1)


def test_it_is_not_shared_when_the_reader_is_the_first_to_notice(house: House, twelve: Twelve) -> None:
    house.cable.cut = True
    answer = get("status")
    assert (answer.status_code, answer.json()["data"]["shared"]) == (200, False)


def test_it_is_not_shared_without_a_store(alone: Any) -> None:
    create_circuit_breaker(name="x")
    data = status()
    assert (data["shared"], list(data["custom"])) == (False, ["x"])


def test_monitors_must_not_cache() -> None:
    assert {get(what)["Cache-Control"] for what in ("status", "health")} == {"no-store"}


# -- health ------------------------------------------------------------------------------------------------------------


def test_health_has_exactly_these_fields(twelve: Twelve) -> None:
    answer = get("health")
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"success", "healthy", "summary", "details", "timestamp"}
    assert (body["success"], body["healthy"]) == (True, True)
    assert body["summary"] == {"total": 12, "open": 0, "closed": 12, "halfOpen": 0}
    assert ISO_8601_Z.fullmatch(body["timestamp"])


def test_healths_details_are_in_the_order_in_which_the_breakers_were_made(twelve: Twelve) -> None:
    details = health()["details"]
    assert [one["name"] for one in details] == [breaker.name for breaker in twelve.values()]
    assert details[0] == {"name": "MIFOS-Maker-get", "state": "CLOSED", "errorRate": "0.00%"}


def test_health_is_503_while_one_of_the_twelve_is_open(twelve: Twelve) -> None:
    fail(twelve["checker", "put"], 5)
    answer = get("health")
    assert answer.status_code == 503
    assert (answer.json()["success"], answer.json()["healthy"]) == (True, False)
    assert answer.json()["summary"] == {"total": 12, "open": 1, "closed": 11, "halfOpen": 0}
    assert {"name": "MIFOS-Checker-put", "state": "OPEN", "errorRate": "100.00%"} in answer.json()["details"]


def test_health_is_200_while_one_is_on_trial(house: House, twelve: Twelve) -> None:
    fail(twelve["checker", "put"], 5)
    house.advance(60)
    answer = get("health")
    assert (answer.status_code, answer.json()["summary"]["halfOpen"]) == (200, 1)


def test_healths_error_rate_is_that_of_all_fires(twelve: Twelve) -> None:
    fail(twelve["maker", "get"], 5)
    for _ in range(5):
        assert rejected(twelve["maker", "get"])
    assert health()["details"][0]["errorRate"] == "50.00%"


def test_an_open_custom_breaker_changes_neither_healthy_nor_summary(twelve: Twelve) -> None:
    fail(create_circuit_breaker(name="balance").breaker, 5)
    answer = get("health")
    assert (answer.status_code, answer.json()["healthy"]) == (200, True)
    assert answer.json()["summary"] == {"total": 12, "open": 0, "closed": 12, "halfOpen": 0}
    assert answer.json()["details"][12] == {"name": "balance", "state": "OPEN", "errorRate": "100.00%"}


@pytest.mark.django_db
def test_one_that_an_operator_opened_is_unhealthy_too(twelve: Twelve) -> None:
    act("MIFOS-Maker-get", "open")
    assert get("health").status_code == 503


# -- who may ask -------------------------------------------------------------------------------------------------------

BAD_HEADERS = ["Token nonsense", "Basic bWFrZXI6c2VjcmV0", "Bearer x", "Token", "\x00"]


@pytest.mark.parametrize("what", ["status", "health"])
@pytest.mark.parametrize("header", BAD_HEADERS)
def test_a_public_one_does_not_look_at_the_authorization(what: str, header: str) -> None:
    assert get(what, headers={"Authorization": header}).status_code == 200


@pytest.fixture
def _for_tokens_only(settings: Any, db: None) -> None:
    settings.BREAKER = {**settings.BREAKER, "STATUS_PUBLIC": False}


@pytest.mark.usefixtures("_for_tokens_only")
@pytest.mark.parametrize("what", ["status", "health"])
@pytest.mark.parametrize("headers", [{}, *({"Authorization": header} for header in BAD_HEADERS)])
def test_one_for_tokens_refuses_whoever_has_none(what: str, headers: dict[str, str]) -> None:
    answer = get(what, headers=headers)
    assert (answer.status_code, answer.json()["success"]) == (401, False)


@pytest.mark.usefixtures("_for_tokens_only")
@pytest.mark.parametrize("what", ["status", "health"])
@pytest.mark.parametrize("rights", [{"maker": True}, {"checker": True}, {}])
def test_one_for_tokens_answers_any_live_one(what: str, rights: dict[str, bool]) -> None:
    token = tokens.issue("monitor", **rights)  # type: ignore[arg-type]
    assert get(what, headers={"Authorization": f"Token {token}"}).status_code == 200


# -- what changed since ------------------------------------------------------------------------------------------------


def test_only_the_named_are_renewed(house: House, twelve: Twelve) -> None:
    before = queries.overview()
    house.advance(0.5)
    fail(twelve["maker", "get"], 5)
    fail(twelve["maker", "put"], 5)
    now = queries.renewed(before, ["MIFOS-Maker-get"])
    assert [entry.name for entry in now.status.entries] == [entry.name for entry in before.status.entries]
    assert [entry.name for entry in now.status.entries if entry.state == "OPEN"] == ["MIFOS-Maker-get"]
    assert now.changes["MIFOS-Maker-get"].what == "OPEN"


def test_what_is_not_renewed_is_older(house: House, twelve: Twelve) -> None:
    before = queries.overview()
    house.clock.advance(0.5)
    now = queries.renewed(before, ["MIFOS-Maker-get"])
    assert (now.status.at - before.status.at).total_seconds() == 0.5
    assert now.age_ms - before.age_ms == 500
    assert [one.age_ms - other.age_ms for one, other in zip(now.workers, before.workers, strict=True)] == [500, 500]


def test_with_a_breaker_that_is_new_all_is_read(twelve: Twelve) -> None:
    before = queries.overview()
    create_circuit_breaker(name="new")
    assert "new" in [entry.name for entry in queries.renewed(before, ["new"]).status.entries]


def test_when_the_store_is_lost_meanwhile_all_is_read(house: House, twelve: Twelve) -> None:
    before = queries.overview()
    house.lose_store()
    assert queries.renewed(before, ["MIFOS-Maker-get"]).lost == "cut"


# -- in words ----------------------------------------------------------------------------------------------------------


def judgement() -> str:
    return queries.status().entries[0].judgement


@pytest.mark.parametrize(
    ("failures", "successes", "said"),
    [(0, 4, "too little traffic to judge"), (0, 5, "fine"), (2, 3, "fine"), (5, 0, "failing")],
)
def test_little_traffic_is_not_called_fine(failures: int, successes: int, said: str) -> None:
    breaker = create_circuit_breaker(name="x").breaker
    succeed(breaker, successes)
    fail(breaker, failures)
    assert judgement() == said


def test_a_disabled_breaker_is_not_called_fine() -> None:
    succeed(create_circuit_breaker(name="x", enabled=False).breaker, 9)
    assert judgement() == "not guarded"


def test_a_named_status_holds_only_those() -> None:
    create_circuit_breaker(name="x"), create_circuit_breaker(name="y")
    assert [entry.name for entry in queries.status(["y", "unknown"]).entries] == ["y"]


def test_no_totals_are_no_division_by_zero() -> None:
    assert (Totals().error_rate, Totals().deciding_error_rate, Totals().latency_mean) == (0, 0, 0)
