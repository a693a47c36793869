"""Real processes and threads that meet in the tables, on PostgreSQL and on SQLite; and runners that are killed."""

from __future__ import annotations

import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.gateway import mifos_environ
from tests.mifos_gateway.outbox.processes import Place, sqlite
from tests.programs import wait_for


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    if request.param == "postgres":
        return Place(request.getfixturevalue("postgres").url)
    return Place(sqlite(tmp_path_factory.mktemp("outbox")))


@pytest.fixture
def place(migrated: Place) -> Place:
    migrated.empty()
    return migrated


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0) as mifos:
        yield mifos


def test_no_two_hold_one_request_nor_one_order(place: Place) -> None:
    """While two more accept into the same orders."""
    place.racer("accept", "40", "5")
    leasing = ("lease_all", "60")
    *_, one, two, three = place.racers(
        ("accept", "40", "5", "100"), ("accept", "40", "5", "200"), leasing, leasing, leasing
    )
    held = [tuple(each) for each in (*one, *two, *three)]
    assert len(held) == 120
    assert max(Counter(pk for _, pk, _, _ in held).values()) == 1
    for _, group in itertools.groupby(sorted(held), key=lambda each: each[0]):
        times = sorted((since, until) for _, _, since, until in group)
        assert all(until <= since for (_, until), (since, _) in itertools.pairwise(times))
    assert {status for status, _, _ in place.racer("tell")} == {"delivered"}


def test_one_key_at_once_is_one_request_with_one_body(place: Place) -> None:
    for deferred, got in place.racer("same_keys", "12"):
        won, lost = sorted(got.values(), key=lambda answers: "422" in answers)
        assert lost == ["422", "422"], got
        assert len(set(won)) == 1
        assert (won[0] == "sent") is not deferred


def test_what_is_cancelled_is_not_sent_and_what_is_sent_is_not_cancelled(place: Place) -> None:
    found = place.racer("cancel_or_lease", "40")
    assert all(cancelled != leased for cancelled, leased, _ in found if cancelled or leased)
    assert all(cancelled or leased for cancelled, leased, _ in found), found
    assert {(cancelled, status) for cancelled, _, status in found} <= {(True, "cancelled"), (False, "replaying")}


def test_what_is_sent_again_is_not_deleted(place: Place) -> None:
    found = place.racer("purge_or_retry", "40")
    assert {(retried, tuple(statuses)) for retried, statuses in found} <= {(True, ("queued",)), (False, ())}


@pytest.mark.parametrize("where", ["send", "settle"])
def test_a_runner_that_is_killed_leaves_its_request_to_others(place: Place, sandbox: Sandbox, where: str) -> None:
    place.environ |= mifos_environ(sandbox)
    place.racer("accept", "3", "1")
    with place.begun("-m", "tests.mifos_gateway.outbox.racer", "stalls", where) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "here\n"
    assert len(sandbox.ledger()) == int(where == "settle")
    assert [status for status, _, _ in place.racer("tell")] == ["replaying", "queued", "queued"]
    first, *others = place.racer("deliver")
    assert first == ["delivered", False, ["abandoned", "delivered"]]
    assert others == [["delivered", False, ["delivered"]]] * 2
    assert [row["externalId"] for row in sandbox.ledger()] == ["0", "1", "2"]


def test_a_runner_that_is_stopped_ends_with_the_call_it_is_in(place: Place, sandbox: Sandbox) -> None:
    place.environ |= mifos_environ(sandbox)
    place.racer("accept", "5", "1")
    sandbox.set(processing_seconds=2.0)
    with place.begun("manage.py", "deliver_deferred") as runner:
        wait_for(lambda: sandbox.requests(), "a call has come to MIFOS")
        runner.send_signal(signal.SIGTERM)
        asked_at = time.monotonic()
        assert runner.wait(20) == 0
        assert time.monotonic() - asked_at < 10
    assert [status for status, _, _ in place.racer("tell")] == ["delivered", *["queued"] * 4]
    assert len(sandbox.ledger()) == 1
