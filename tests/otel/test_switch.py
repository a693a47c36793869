"""What turns OpenTelemetry on, what is wrong with how it is asked for, and that off means off."""

import subprocess
import sys

import pytest
from django.core.checks import run_checks

from breaker import otel
from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.gateway import CHECKOUT, clean_environ, mifos_environ

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
COLLECTOR = "http://collector:4318"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch):
    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def exported() -> list[str]:
    return [signal for signal in otel.SIGNALS if otel.is_exported(signal)]


def test_it_is_off_where_nothing_is_said():
    assert (otel.is_on(), exported()) == (False, [])


def test_a_receiver_turns_it_on(environ):
    environ(**{ENDPOINT: COLLECTOR})
    assert (otel.is_on(), exported()) == (True, ["traces", "logs", "metrics"])


def test_an_empty_receiver_is_none(environ):
    environ(**{ENDPOINT: " "})
    assert not otel.is_on()


def test_a_signal_may_have_a_receiver_of_its_own_and_the_others_none(environ):
    environ(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=COLLECTOR + "/v1/traces")
    assert (otel.is_on(), exported()) == (True, ["traces"])


def test_a_signal_is_switched_off_by_its_exporter(environ):
    environ(**{ENDPOINT: COLLECTOR}, OTEL_LOGS_EXPORTER="none", OTEL_METRICS_EXPORTER="otlp")
    assert exported() == ["traces", "metrics"]


@pytest.mark.parametrize("word", ["true", "TRUE"])
def test_the_sdks_switch_turns_all_off(environ, word):
    environ(**{ENDPOINT: COLLECTOR}, OTEL_SDK_DISABLED=word)
    assert (otel.is_on(), exported()) == (False, [])


def test_the_setting_comes_before_the_receiver(environ, settings):
    settings.BREAKER = {**settings.BREAKER, "OPENTELEMETRY": True}
    assert (otel.is_on(), exported()) == (True, [])
    environ(**{ENDPOINT: COLLECTOR})
    settings.BREAKER = {**settings.BREAKER, "OPENTELEMETRY": False}
    assert not otel.is_on()


def test_the_sdks_switch_is_stronger_than_the_setting(environ, settings):
    settings.BREAKER = {**settings.BREAKER, "OPENTELEMETRY": True}
    environ(OTEL_SDK_DISABLED="true")
    assert not otel.is_on()


# -- what cannot be done -----------------------------------------------------------------------------------------------


def told() -> list[str]:
    return [found.msg for found in run_checks() if found.id == "breaker.E003"]


def test_a_good_environment_has_no_problem(environ):
    environ(**{ENDPOINT: COLLECTOR}, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    assert told() == []


def test_a_missing_package_is_named_with_the_remedy(environ, monkeypatch):
    monkeypatch.setattr(otel, "NEEDED", ("opentelemetry.sdk", "opentelemetry.not_there", "not_there_at_all.either"))
    environ(**{ENDPOINT: COLLECTOR})
    assert told() == [
        f"OpenTelemetry is configured, and its package {name} is not installed: pip install mifos-gateway[otel]"
        for name in ("opentelemetry.not_there", "not_there_at_all.either")
    ]


def test_another_protocol_is_refused_with_the_port_to_use(environ):
    environ(**{ENDPOINT: "http://collector:4317"}, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert told() == [
        "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf is spoken here; receivers take it on port 4318, not 4317"
    ]


@pytest.mark.parametrize("endpoint", ["collector:4318", "http://", "http://[::1"])
def test_what_is_no_url_is_refused(environ, endpoint):
    environ(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=endpoint)
    assert told() == [f"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={endpoint}: http://host:port or https://host is needed"]


@pytest.mark.parametrize("headers", ["api-key", "api-key=a,secret", "=secret", 'api-key="secret"', "api key=secret"])
def test_headers_that_the_exporter_would_show_in_the_log_are_refused_and_not_shown(environ, headers):
    environ(**{ENDPOINT: COLLECTOR}, OTEL_EXPORTER_OTLP_HEADERS=headers)
    (problem,) = told()
    assert problem.startswith("OTEL_EXPORTER_OTLP_HEADERS: name=value is needed")
    assert "secret" not in problem


@pytest.mark.parametrize("headers", ["api-key=a", "Authorization=Basic YWI6Y2Q=, x = y,", "a=%7B%22b%22%3A%20true%7D"])
def test_good_headers_are_those_that_the_exporter_takes(environ, headers):
    from opentelemetry.util.re import parse_env_headers

    environ(**{ENDPOINT: COLLECTOR}, OTEL_EXPORTER_OTLP_HEADERS=headers)
    assert (told(), len(parse_env_headers(headers, liberal=True))) == ([], headers.strip(",").count(",") + 1)


def test_what_is_off_has_no_problem(environ):
    environ(**{ENDPOINT: "nonsense"}, OTEL_SDK_DISABLED="true")
    assert told() == []


# -- off ---------------------------------------------------------------------------------------------------------------

OURS = [*(f"breaker.otel.{name}" for name in ("export", "metrics", "news", "readings", "spans")), "mifos_gateway.otel"]
BOOT_AND_CALL = """
import builtins
importers, plain = set(), builtins.__import__
def noting(name, globals=None, *more, **named):  # redis-py, too, imports it where it is installed
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if name.partition(".")[0] == "opentelemetry" and importer in ("breaker", "mifos_gateway", "config"):
        importers.add(globals["__name__"])
    return plain(name, globals, *more, **named)
builtins.__import__ = noting
from config.wsgi import application
from mifos_gateway import maker
from breaker.registry import create_circuit_breaker
create_circuit_breaker(lambda: 1, name="own")()
print(maker.get("clients").status_code, sorted(importers))
"""


@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        ({}, "200 []"),
        ({ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "true"}, "200 []"),
        ({ENDPOINT: "http://127.0.0.1:9"}, f"200 {OURS}"),  # so that the test can fail
    ],
)
def test_we_import_nothing_of_opentelemetry_while_it_is_off(tmp_path, variables, printed):
    with Sandbox(port=0) as sandbox:
        environ = clean_environ(
            DJANGO_DEBUG="true", DATABASE_URL=f"sqlite:///{tmp_path / 'db.sqlite3'}", **mifos_environ(sandbox)
        )
        ran = subprocess.run(
            [sys.executable, "-c", BOOT_AND_CALL],
            env=environ | variables,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.stdout.strip() == printed, ran.stderr


def test_no_middleware_is_there_while_it_is_off(settings):
    from django.core.exceptions import MiddlewareNotUsed

    from mifos_gateway.middleware import TraceContextMiddleware

    with pytest.raises(MiddlewareNotUsed):
        TraceContextMiddleware(lambda request: None)
