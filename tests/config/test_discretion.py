"""What is left of others' log records; tests/acceptance/test_discretion.py asks real gunicorn."""

import logging
import sys
from collections.abc import Callable

import pytest

from config import logs
from config.discretion import discreet

MARKER = "mgw_marker"


def told(name: str, message: str, *args: object, error: bool = False, style: str = "plain", **extra: object) -> str:
    """The line that our handler makes of such a record."""
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, sys.exc_info() if error else None)
    vars(record).update({"request_id": "-"} | extra)
    row = dict(logs.dict_config(style, "DEBUG")["formatters"][style])
    formatter: logging.Formatter = row.pop("()")(row.pop("format"), **row)
    return formatter.format(discreet(record))


def failing(tell: Callable[[], str]) -> str:
    try:
        raise RuntimeError(MARKER)
    except RuntimeError:
        return tell()


@pytest.mark.parametrize("style", ["plain", "json"])
@pytest.mark.parametrize(
    ("name", "message", "args"),
    [
        ("gunicorn.error", f"Invalid request from ip=1.2.3.4: Invalid HTTP Header: '{MARKER}'", ()),
        ("gunicorn.error", "Error handling request %s %s", ("GET", f"/{MARKER}?x={MARKER}")),
        ("gunicorn.error", "Error handling request %s", (f"/{MARKER}",)),
        ("django.request", "%s: %s", ("Internal Server Error", f"/admin/{MARKER}")),
        ("django.security.DisallowedHost", f"Invalid HTTP_HOST header: '{MARKER}'", ()),
        ("urllib3.connectionpool", "it failed", ()),
        ("asyncio", "Task exception was never retrieved", ()),
    ],
)
def test_of_others_errors_the_kind_is_left(style, name, message, args):
    line = failing(lambda: told(name, message, *args, style=style, error=True, request=f"<GET {MARKER}>"))

    assert MARKER not in line
    assert "RuntimeError" in line


def test_an_error_that_gunicorn_only_quotes_is_named_all_the_same():
    line = failing(lambda: told("gunicorn.error", f"Invalid request from ip=1.2.3.4: {MARKER}"))

    assert line.endswith("gunicorn.error: Invalid request: RuntimeError")


def test_a_refused_form_is_named_without_the_path_that_it_was_sent_to():
    line = told("django.security.csrf", "Forbidden (%s): %s", f"Referer {MARKER}", f"/{MARKER}", status_code=403)

    assert line.endswith("A request is refused or failed: csrf (403)")


def test_a_traceback_still_says_where():
    line = failing(lambda: told("django.request", "%s: %s", "Internal Server Error", "/admin/", error=True))

    assert "in failing" in line


def test_a_worker_that_cannot_start_says_why():
    line = failing(lambda: told("gunicorn.error", "Exception in worker process", error=True))

    assert f"RuntimeError: {MARKER}" in line


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("Connection in use: %s", ("('127.0.0.1', 8000)",)),
        ("Invalid address: %s", ("('192.0.2.1', 8000)",)),
        ("connection to ('999.1.1.1', 8000) failed: [Errno -2] Name or service not known", ()),
        ("Can't connect to %s", ("('127.0.0.1', 8000)",)),
        ("Reason: %s", ("Worker failed to boot.",)),
    ],
)
def test_a_server_that_cannot_serve_says_where_and_why(message, args):
    line = failing(lambda: told("gunicorn.error", message, *args))

    assert line.endswith(message % args if args else message)


@pytest.mark.parametrize("name", ["breaker", "gateway.access", "mifos_gateway.x", "config"])
def test_our_own_lines_are_told_as_they_are(name):
    line = failing(lambda: told(name, "as %s", "said", error=True))

    assert "as said" in line
    assert "RuntimeError" in line


def test_a_record_is_left_as_it_is_for_other_handlers():
    record = logging.LogRecord("django.request", logging.ERROR, __file__, 1, "%s: %s", ("Bad", "/x"), None)
    discreet(record)

    assert record.getMessage() == "Bad: /x"


def test_no_library_is_more_talkative_than_info():
    configured = logs.dict_config("plain", "DEBUG")

    rows = [configured["root"], *(configured["loggers"][name] for name in ("gunicorn.error", "django"))]
    assert [row["level"] for row in rows] == ["INFO"] * 3
