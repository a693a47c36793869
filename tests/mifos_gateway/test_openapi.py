"""The schema names every endpoint and error."""

from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_a_forwarded_method_has_every_answer(schema: dict[str, Any], method: str) -> None:
    operation = schema["paths"]["/api/v1/mifos/{client}/{path}"][method]

    of_writes = "202 409 422" if method != "get" else ""
    expected = f"200 204 304 400 401 403 404 405 413 500 502 503 504 {of_writes}"
    assert sorted(operation["responses"]) == sorted(expected.split())
    assert operation["security"] == [{"consumerToken": []}]


def test_every_error_code_has_an_example(schema: dict[str, Any]) -> None:
    responses = schema["paths"]["/api/v1/mifos/{client}/{path}"]["post"]["responses"]
    shown = {
        code
        for status, response in responses.items()
        if status >= "400"
        for code in response["content"]["application/json"]["examples"]
    }

    assert {_normal(code) for code in shown} == {_normal(code) for code in _codes()}


def test_head_is_forwarded_too_and_has_no_bodies(schema: dict[str, Any]) -> None:
    operations = schema["paths"]["/api/v1/mifos/{client}/{path}"]
    head, get = operations["head"], operations["get"]

    assert (head["operationId"], head["parameters"]) == ("mifos_head", get["parameters"])
    assert "MIFOS-Maker-request" in head["description"]
    assert set(head["responses"]) == set(get["responses"])
    assert not any("content" in answer for answer in head["responses"].values())


def _codes() -> set[str]:
    from mifos_gateway import errors, refusals

    kinds = [*vars(errors).values(), *vars(refusals).values()]
    own = {kind.code for kind in kinds if isinstance(kind, type) and issubclass(kind, errors.GatewayError)}
    return own | {"NOT_FOUND", "METHOD_NOT_ALLOWED", "BAD_REQUEST"}


def _normal(code: str) -> str:
    return code.replace("_", "").lower()


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/livez", "200 405"),
        ("/readyz", "200 405 503"),
        ("/metrics", "200 401 405"),
        ("/api/v1/circuit-breaker/status", "200 401 405 500"),
        ("/api/v1/circuit-breaker/health", "200 401 405 500 503"),
    ],
)
def test_what_monitors_read_has_every_answer(schema: dict[str, Any], path: str, statuses: str) -> None:
    responses = schema["paths"][path]["get"]["responses"]

    assert sorted(responses) == statuses.split()
    assert "X-Gateway-Error" in responses["405"]["headers"]


BREAKER = "/api/v1/circuit-breaker/{name}"
SEEN = "200 401 403 404 500"
SAID = "200 400 401 403 404 500 503"


@pytest.mark.parametrize(
    ("path", "method", "statuses", "answers", "asks"),
    [
        (BREAKER, "get", SEEN, "Entry", "name"),
        (BREAKER + "/{action}", "post", SAID, "Acted", "action name"),
        (BREAKER + "/events", "get", SAID, "PaginatedEventList", "kind name page page_size since until"),
        (BREAKER + "/history", "get", SAID, "PaginatedPointList", "from name page page_size step to"),
        (
            "/api/v1/circuit-breaker/events",
            "get",
            SAID,
            "PaginatedEventList",
            "breaker kind page page_size since until",
        ),
    ],
)
def test_one_breaker_its_acts_and_its_past_have_every_answer(
    schema: dict[str, Any], path: str, method: str, statuses: str, answers: str, asks: str
) -> None:
    operation = schema["paths"][path][method]

    assert sorted(operation["responses"]) == statuses.split()
    assert operation["security"] == [{"consumerToken": []}]
    told = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert told == {"$ref": f"#/components/schemas/{answers}"}
    assert sorted(parameter["name"] for parameter in operation["parameters"]) == asks.split()


def test_the_six_acts_are_named(schema: dict[str, Any]) -> None:
    parameters = schema["paths"][BREAKER + "/{action}"]["post"]["parameters"]
    (action,) = (each for each in parameters if each["name"] == "action")
    assert set(action["schema"]["enum"]) == {"reset", "open", "close", "release", "disable", "enable"}


ENTRY = "enabled forced name openedAt options retryAfter state stats"


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        ("Act", "forSeconds reason"),
        ("Entry", ENTRY),
        ("Acted", f"{ENTRY} warning"),
        (
            "Event",
            "actor alone at breaker counts durationMs from id kind operation reason source to",
        ),
        (
            "Point",
            "at failures fallbacks fires latencyMean p50 p95 p99 rejects secondsOpen successes timeouts",
        ),
        ("PaginatedEventList", "count next previous results"),
        ("PaginatedPointList", "count next previous results"),
    ],
)
def test_what_is_told_of_one_breaker_has_every_field(schema: dict[str, Any], shape: str, fields: str) -> None:
    assert set(schema["components"]["schemas"][shape]["properties"]) == set(fields.split())


@pytest.mark.parametrize("address", ["/api/schema/", "/api/docs/"])
def test_schema_and_documentation_are_public(client: Client, address: str) -> None:
    assert client.get(address).status_code == 200
