"""The rows of deferred writes are measured, with real servers. No time is looked at: a benchmark is never a test."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import deferred, kept
from tests.benchmarks.course import Figure

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 280


@pytest.mark.timeout(PATIENCE + 20)
def test_each_row_is_measured_or_says_why_not(tmp_path):
    # Without an outage: tests/acceptance has three whole ones.
    rest = [course for course in deferred.COURSES if course is not deferred.OUTAGES]
    command = [sys.executable, "-m", "tests.benchmarks", "--tiny", "--only", ",".join(course.name for course in rest)]
    command += ["--json", str(tmp_path / "tiny.json")]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stderr
    book, _ = kept.load(tmp_path / "tiny.json")
    lost = [(course.name, row) for course in rest for row in course.rows if row not in book[course.name]]
    assert all(deferred.MISSING in ran.stdout and deferred.POSTGRESQL in row for _, row in lost), lost


@pytest.mark.parametrize("wrong", ["", *deferred.WRONG])
def test_a_single_wrong_effect_misses_the_goal(wrong: str) -> None:
    beside = {name: float(name == wrong) for name in deferred.WRONG}
    book = {deferred.OUTAGES.name: {deferred.OUTAGE_ROW: Figure(values=[12.0], beside=beside)}}
    (goal,) = deferred.OUTAGES.goals
    verdict = goal.judge(deferred.OUTAGES, book)
    assert verdict is not None
    assert verdict.met is (not wrong)
