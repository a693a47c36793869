"""The one-minute profile of `make chaos`, with the same schedule each time; `make chaos` tries others, for longer."""

from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.report import figures, violations
from tests.chaos.run import play
from tests.chaos.stage import ClockStepped

SEED, MINUTES = 4, 0.9


@pytest.mark.timeout(240)
def test_nothing_that_was_promised_breaks_in_a_minute_of_chaos(tmp_path: Path):
    try:
        recording = play(SEED, MINUTES, tmp_path)
    except ClockStepped as error:
        pytest.skip(str(error))
    found = check(recording)
    print("\n".join([*figures(recording), *violations(recording, found)]))
    assert not found, "see above"
