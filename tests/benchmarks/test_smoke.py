"""Every row of the benchmark is there. No time is looked at: a benchmark is never a test."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import deferred, gateway, kept, plan
from tests.benchmarks.course import Book

CHECKOUT = Path(__file__).parents[2]
LEFT_OUT = {
    *("closed-8", "closed-32", "rejected-1", "rejected-32", "status-1000"),
    *("trip-spin", "trip-hearer", "deadline-headers"),
    *(f"traffic-{kind}-{rate}" for kind in ("success", "rejected") for rate in (300, 1_000)),
    *(course.name for course in (*gateway.COURSES, *deferred.COURSES)),
}
"""Others of their kind run: these differ by a number. The gateway's and those of deferred
writes have runs of their own."""
PATIENCE = 280
"""Seconds; it takes 20, and 75 on a machine with ten other things to do."""
COURSES = [course for course in plan.COURSES if course.name not in LEFT_OUT]

pytestmark = pytest.mark.timeout(PATIENCE + 20)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Book]:
    """What a tiny run printed, and what it kept."""
    path = tmp_path_factory.mktemp("bench") / "tiny.json"
    only = ",".join(course.name for course in COURSES)
    command = [sys.executable, "-m", "tests.benchmarks", "--tiny", "--only", only, "--json", str(path)]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stderr
    book, _ = kept.load(path)
    return ran.stdout, book


def test_each_row_is_printed(tiny: tuple[str, Book]) -> None:
    printed, _ = tiny
    rows = [name for course in COURSES for name in (course.title, *course.rows)]
    assert [row for row in rows if row not in printed] == []


def test_each_row_is_kept_or_says_why_not(tiny: tuple[str, Book]) -> None:
    printed, book = tiny
    lines = printed.splitlines()
    rows = [(course.name, row) for course in COURSES for row in course.rows]
    lost = [(course, row) for course, row in rows if row not in book.get(course, {})]
    assert [row for _, row in lost if not any(row in line and "not here: " in line for line in lines)] == []


def test_each_goal_has_a_verdict(tiny: tuple[str, Book]) -> None:
    printed, book = tiny
    verdicts = [goal.judge(course, book) for course in COURSES for goal in course.goals]
    assert None not in verdicts
    assert [verdict for verdict in verdicts if verdict and verdict.goal not in printed] == []
