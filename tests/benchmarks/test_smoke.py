"""Every row of the benchmark is there. No time is looked at: a benchmark is never a test."""

import subprocess
import sys
from pathlib import Path

import pyperf
import pytest

from tests.benchmarks import propagation
from tests.benchmarks.__main__ import SCENARIOS

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pyperf.BenchmarkSuite]:
    """What a tiny run printed, and what it kept."""
    kept = tmp_path_factory.mktemp("bench") / "tiny.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--tiny", "--json", str(kept)]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, pyperf.BenchmarkSuite.load(str(kept))


def test_each_row_is_printed(tiny: tuple[str, pyperf.BenchmarkSuite]) -> None:
    printed, _ = tiny
    rows = [name for scenario in SCENARIOS for name in (scenario.title, scenario.subject, *scenario.peers)]
    rows += [course.title for course in propagation.COURSES]
    assert [row for row in rows if row not in printed] == []


def test_each_row_is_kept(tiny: tuple[str, pyperf.BenchmarkSuite]) -> None:
    _, kept = tiny
    rows = {f"{scenario.name} | {name}" for scenario in SCENARIOS for name in (scenario.subject, *scenario.peers)}
    assert rows - set(kept.get_benchmark_names()) == set()


def test_each_goal_has_a_verdict(tiny: tuple[str, pyperf.BenchmarkSuite]) -> None:
    printed, _ = tiny
    for goal in (goal for scenario in SCENARIOS for goal in scenario.goals):
        assert f"at most {goal.at_most:.3g} x {goal.peer}, is" in printed
