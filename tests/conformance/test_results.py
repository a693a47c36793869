"""Ours passes all traces that it can be asked, and the page says what each peer gives."""

from __future__ import annotations

import pytest

from tests.conformance.contestants import contestants
from tests.conformance.report import Results, failures_of_ours, markdown, on_page, results, table
from tests.conformance.runner import PASS
from tests.conformance.trace import FILES, read
from tests.programs import RedisServer


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Results:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        return results(map(read, FILES), contestants(server.url))
    finally:
        server.kill()


def test_ours_fails_none(found: Results) -> None:
    assert failures_of_ours(found) == []


def test_ours_gives_the_same_over_memory_and_redis(found: Results) -> None:
    over = {
        name: {t: one.kind for (t, who), one in found.items() if who == name}
        for name in ("ours, memory", "ours, Redis")
    }
    assert over["ours, memory"] == over["ours, Redis"]


def test_each_trace_is_passed_by_somebody(found: Results) -> None:
    """So that what no contestant can be asked is not there: nobody would have tried it."""
    passed = {trace for (trace, _), one in found.items() if one.kind == PASS}
    assert {trace for trace, _ in found} - passed == set()


def test_the_page_says_what_each_gives(found: Results) -> None:
    """`make conformance ARGS=--write` brings it up to date; read what changed before you keep it."""
    assert on_page().strip() == markdown(found).strip()


def test_the_terminal_shows_each_trace_and_each_reason(found: Results) -> None:
    shown = "\n".join(table(found))
    assert [trace for trace, _ in found if trace not in shown] == []
    assert [one.why for one in found.values() if one.why not in shown] == []
