"""What gunicorn.conf.py makes of the environment."""

import subprocess
import sys
from typing import Any

import pytest

from config import env
from tests.acceptance.gateway import CHECKOUT, clean_environ


def configured(expression: str, **environ: str) -> Any:
    """The value that gunicorn gets, in a process of its own, since reading the file changes its process."""
    script = f"import runpy; print(repr(eval({expression!r}, runpy.run_path('config/gunicorn.conf.py'))))"
    command = [sys.executable, "-c", script]
    read = subprocess.run(
        command, env=clean_environ(**environ), cwd=CHECKOUT, capture_output=True, text=True, timeout=30
    )
    return read.stdout.strip() or read.stderr


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [({}, "35"), ({"BREAKER_TIMEOUT": "0.5"}, "6"), ({"GUNICORN_GRACEFUL_TIMEOUT": "1"}, "1")],
)
def test_a_running_call_is_let_finish(environ, seconds):
    assert configured("graceful_timeout", **environ) == seconds


def test_a_part_of_a_second_to_finish_in_is_refused(monkeypatch):
    monkeypatch.setenv("GUNICORN_GRACEFUL_TIMEOUT", "0.5")  # gunicorn takes whole seconds, and would cut calls at once

    with pytest.raises(env.BadEnvironment, match=r"GUNICORN_GRACEFUL_TIMEOUT=0\.5: a whole number"):
        env.read()


@pytest.mark.parametrize(("level", "loglevel"), [("DEBUG", "INFO"), ("ERROR", "ERROR")])
def test_gunicorn_is_never_at_debug(level, loglevel):
    assert configured("loglevel", LOG_LEVEL=level) == repr(loglevel)


def test_gunicorn_makes_up_no_access_line_of_its_own():
    assert configured("logger_class.access(*[None] * 5)") == "None"
