"""What the exporters may say in the log, and an end that waits for nobody."""

import logging
import threading
import time

import pytest

from breaker.otel import export
from breaker.testing import Clock


def record(message: str = "retrying in %s", *args: object) -> logging.LogRecord:
    return logging.LogRecord("exporter", logging.WARNING, __file__, 1, message, args, None)


def test_a_line_of_a_kind_is_told_once_a_minute() -> None:
    clock = Clock()
    sparing = export.Sparing(clock)
    assert [sparing.filter(record("retrying in %s", seconds)) for seconds in (1, 2)] == [True, False]
    assert sparing.filter(record("failed"))
    clock.advance(60)
    assert sparing.filter(record("retrying in %s", 4))


def test_a_header_that_cannot_be_read_is_not_shown() -> None:
    said = record("Header format invalid! %s", "api-key secret")
    assert export.Discreet().filter(said)
    assert said.getMessage() == "Header format invalid! (not shown)"


def test_the_end_waits_no_longer_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, sent = threading.Event(), threading.Event()
    monkeypatch.setattr(export, "_ends", [lambda: hangs.wait(30), sent.set])
    began = time.monotonic()
    export.finish(0.2)
    assert 0.2 <= time.monotonic() - began < 5
    assert sent.is_set()
    hangs.set()


def test_an_end_that_has_nothing_to_do_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_ends", [lambda: None])
    began = time.monotonic()
    export.finish(30)
    export.finish(30)
    assert time.monotonic() - began < 5


def test_what_cannot_be_started_is_logged_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(export, "_started", False)
    monkeypatch.setattr(export, "_start", fail)
    export.start()
    export.start()
    assert [found.message for found in caplog.records] == ["OpenTelemetry cannot be exported"]
