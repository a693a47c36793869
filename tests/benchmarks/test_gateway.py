"""The gateway's rows are measured, with real servers. No time is looked at: a benchmark is never a test."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import gateway, kept

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 170


@pytest.mark.timeout(PATIENCE + 20)
def test_each_contestant_serves_and_is_pressed(tmp_path):
    command = [sys.executable, "-m", "tests.benchmarks", "--tiny", "--only", gateway.RATE.name]
    command += ["--json", str(tmp_path / "tiny.json")]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stderr
    book, _ = kept.load(tmp_path / "tiny.json")
    assert set(book[gateway.RATE.name]) == set(gateway.RATE.rows)
