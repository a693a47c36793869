"""A run that does not go as it should says what it was, and keeps what it has seen."""

import argparse
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.chaos import __main__ as command
from tests.chaos import run
from tests.chaos.crowd import CALLERS, Crowd
from tests.chaos.recording import NO_ANSWER, Recording
from tests.chaos.stage import Stage


def test_calls_that_hang_are_written_down():
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        gateway = SimpleNamespace(port=deaf.getsockname()[1], token="any")
        crowd = Crowd([gateway], lambda: time.monotonic() - began)  # type: ignore[list-item]
        crowd.start()
        time.sleep(0.4)
        assert not crowd.hush(0.1)
        crowd.stop()
        calls = crowd.calls
    assert len(calls) == CALLERS
    assert all(call.status == NO_ANSWER and 0.1 < call.seconds < 10 for call in calls)


@pytest.mark.parametrize("error", [OSError, pytest.fail.Exception])
def test_a_run_that_fails_keeps_its_recording_and_tells_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
):
    def fail(stage: Stage) -> Stage:
        raise error("no port is free")

    monkeypatch.setattr(Stage, "__enter__", fail)
    with pytest.raises(error, match="no port is free") as raised:
        run.play(7, 1, tmp_path, tmp_path / "new" / "kept")
    assert any("kill_worker" in note for note in raised.value.__notes__)
    assert Recording.load(tmp_path / "new" / "kept").seed == 7


@pytest.mark.parametrize("minutes", ["0.9", "10.1", "0"])
def test_minutes_are_as_the_help_says(minutes):
    assert command._minutes("1") == 1
    assert command._minutes("10") == 10
    with pytest.raises(argparse.ArgumentTypeError):
        command._minutes(minutes)
