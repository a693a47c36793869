"""What is found to be sent among much that waits: the heads of all lines, however many stand in front of them."""

from __future__ import annotations

import pytest

from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import clock, delivery
from tests.mifos_gateway.deferred_rows import deferred

pytestmark = pytest.mark.django_db

POST, PUT = "MIFOS-Maker-post", "MIFOS-Maker-put"


@pytest.fixture(autouse=True)
def _a_short_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FRONT", 3)


def leased(limit: int = 100, breakers: tuple[str, ...] = (POST, PUT)) -> set[int]:
    return {one.row.pk for one in delivery.lease(clock.now(), limit=limit, breakers=breakers)}


def held_up(order: str = "b", behind: int = 7) -> None:
    deferred(order, status="rejected")
    for _ in range(behind):
        deferred(order)


def test_those_behind_a_line_that_is_held_up_are_found() -> None:
    held_up()
    free = {deferred("a").pk, deferred("c").pk, deferred().pk, deferred().pk}
    deferred("c")
    assert leased() == free


def test_the_heads_of_more_lines_than_are_looked_at_at_once_are_found() -> None:
    held_up()
    assert leased(limit=8) == set()
    free = {deferred(f"{number:02}").pk for number in range(10)}
    assert leased() == free


def test_the_heads_of_one_tenants_lines_hide_no_others() -> None:
    """Where tenants share a namespace: the other's requests were there before, in the same lines and in others."""
    held_up()
    for number in range(10):
        deferred(f"{number:02}", tenant="another")
    free = {deferred(f"{number:02}").pk for number in range(5, 15)}
    assert leased() == free


def test_no_more_than_is_asked_for() -> None:
    held_up()
    free = {deferred(f"{number:02}").pk for number in range(10)}
    found = leased(limit=4)
    assert len(found) == 4
    assert leased() == free - found


def test_those_of_a_breaker_that_rejects_hide_nobody() -> None:
    for _ in range(7):
        deferred(breaker=POST)
    free = deferred("a", breaker=PUT).pk
    assert leased(breakers=(PUT,)) == {free}


def test_none_whose_predecessor_is_another_breakers() -> None:
    deferred("a", breaker=POST)
    deferred("a", breaker=PUT)
    assert leased(breakers=(PUT,)) == set()


def test_those_due_longest_come_first() -> None:
    late, early = (deferred(ago=seconds).pk for seconds in (1, 2))
    assert leased(limit=1) == {early}
    assert leased(limit=1) == {late}


@pytest.mark.parametrize(
    ("status", "is_released", "holds"),
    [
        ("queued", False, True),
        ("replaying", False, True),
        ("rejected", False, True),
        ("unknown", False, True),
        ("rejected", True, False),
        ("delivered", False, False),
        ("awaiting_approval", False, False),
        ("expired", False, False),
        ("cancelled", False, False),
    ],
)
def test_who_stands_in_line(status: str, is_released: bool, holds: bool) -> None:
    pk = deferred("a", status=status, released_at=clock.now() if is_released else None).pk
    assert DeferredRequest.objects.get(pk=pk).line == ("maker a" if holds else None)


def test_the_names_that_are_looked_up_are_skipped_from_one_to_the_next() -> None:
    rows = [deferred(order) for order in ("b", "a", "b", "c", "d", "a")]
    heads = [("maker a", rows[1].pk), ("maker b", rows[0].pk), ("maker c", rows[3].pk), ("maker d", rows[4].pk)]
    assert delivery._names("line", of_each=delivery._HEAD) == heads[:3]
    assert delivery._names("line", of_each=delivery._HEAD, after="maker c") == heads[3:]
    assert delivery._names("breaker", status="queued") == [(POST, None)]
    assert delivery._names("breaker", status="replaying") == []
