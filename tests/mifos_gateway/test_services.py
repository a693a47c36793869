"""MIFOS in Python."""

import json
from typing import Any

import pytest

import mifos_gateway
from mifos_gateway import checker, get_circuit_breaker_status, maker, request_id, targets
from mifos_gateway.errors import InvalidCall
from mifos_gateway.idempotency import key_for_mifos
from mifos_gateway.refusals import InvalidPath, InvalidQuery, ServiceUnavailable
from tests.mifos_gateway.conftest import FakeMifos, mifos_answer


def test_an_answer_is_returned_whatever_its_status(mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(404, {"httpStatusCode": "404"})

    answer = maker.get("clients/1")
    assert (answer.status_code, answer.json()) == (404, {"httpStatusCode": "404"})


def test_parameters_become_the_query(mifos: FakeMifos) -> None:
    maker.get("clients", params={"limit": 5, "name": "A & B", "fields": ["id", "name"], "none": None})

    assert mifos.last["target"] == "clients?limit=5&name=A+%26+B&fields=id&fields=name"


def test_parameters_join_a_query_that_is_there(mifos: FakeMifos) -> None:
    maker.get("clients?paged=true", params=[("a", 1), ("a", 2)])

    assert mifos.last["target"] == "clients?paged=true&a=1&a=2"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("clients", "clients"),
        ("/clients", "clients"),
        ("/api/v1/clients", "api/v1/clients"),
        ("v2/clients/search", "v2/clients/search"),
        ("runreports/Client Listing", "runreports/Client%20Listing"),
        ("runreports/Client%20Listing", "runreports/Client%20Listing"),
        ("clients/external-id/आशा", "clients/external-id/%E0%A4%86%E0%A4%B6%E0%A4%BE"),
    ],
)
def test_a_path_may_be_written_in_several_ways(mifos: FakeMifos, path: str, sent: str) -> None:
    maker.get(path)

    assert mifos.last["target"] == sent


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_each_method_is_sent(mifos: FakeMifos, method: str) -> None:
    getattr(checker, method)("clients/1")

    assert (mifos.last["user"], mifos.last["method"]) == ("checker", method.upper())


def test_any_method_can_be_requested(mifos: FakeMifos) -> None:
    maker.request("head", "clients")

    assert mifos.last["method"] == "HEAD"


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ({"json": {"name": "आशा"}}, json.dumps({"name": "आशा"}).encode(), "application/json"),
        ({"json": []}, b"[]", "application/json"),
        ({"data": b"\x00\xff"}, b"\x00\xff", None),
        ({"data": "é"}, "é".encode(), None),
        ({"data": {"a": "b c"}}, b"a=b+c", "application/x-www-form-urlencoded"),
        ({}, None, None),
    ],
)
def test_a_body_is_sent(mifos: FakeMifos, body: dict[str, Any], sent: bytes | None, content_type: str | None) -> None:
    maker.post("clients", **body)

    assert (mifos.last["body"], mifos.last["headers"].get("Content-Type")) == (sent, content_type)


def test_two_bodies_are_one_too_many(mifos: FakeMifos) -> None:
    with pytest.raises(InvalidCall):
        maker.post("clients", json={}, data=b"")


def test_headers_are_the_callers(mifos: FakeMifos) -> None:
    maker.get("clients", headers={"accept": "text/csv"})

    assert [value for name, value in mifos.last["headers"].items() if name.lower() == "accept"] == ["text/csv"]


def test_the_current_request_id_goes_along(mifos: FakeMifos) -> None:
    before = request_id.current.set("abc")
    try:
        maker.get("clients")
    finally:
        request_id.current.reset(before)

    assert [mifos.last["headers"][name] for name in ("X-Request-ID", "X-Correlation-ID")] == ["abc", "abc"]


@pytest.mark.django_db
def test_an_idempotency_key_becomes_a_digest(mifos: FakeMifos) -> None:
    maker.post("clients", idempotency_key="k")
    first = mifos.last["headers"]["Idempotency-Key"]
    checker.post("clients", idempotency_key="k")

    assert first not in ("k", mifos.last["headers"]["Idempotency-Key"])


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key"])
def test_a_key_in_the_headers_is_the_calls_key(mifos: FakeMifos, name: str) -> None:
    maker.post("clients", idempotency_key="k")
    by_argument = dict(mifos.last["headers"])
    maker.post("clients", headers={name: "k"})

    assert {each: mifos.last["headers"][each] for each in mifos.last["headers"] if "key" in each.lower()} == {
        "Idempotency-Key": by_argument["Idempotency-Key"]
    }


def test_a_call_has_one_key(mifos: FakeMifos) -> None:
    with pytest.raises(InvalidCall, match="one key"):
        maker.post("clients", idempotency_key="a", headers={"Idempotency-Key": "b"})
    assert not mifos.calls


@pytest.mark.django_db
def test_a_key_used_in_python_meets_no_consumers(mifos: FakeMifos) -> None:
    maker.post("clients", idempotency_key="k")

    target = targets.parse("clients")
    consumers = [
        key_for_mifos("k", consumer=name, client="maker", method="POST", target=target) for name in ("maker", "shop")
    ]
    assert mifos.last["headers"]["Idempotency-Key"] not in consumers


@pytest.mark.parametrize("path", ["../users", "//evil.example", "http://evil.example/x", "clients/%2e%2e"])
def test_no_path_leaves_the_api(mifos: FakeMifos, path: str) -> None:
    with pytest.raises(InvalidPath):
        maker.get(path)
    assert not mifos.calls


def test_the_tenant_is_not_the_callers_to_choose(mifos: FakeMifos) -> None:
    with pytest.raises(InvalidQuery):
        maker.get("clients", params={"tenantIdentifier": "other"})


def test_a_rejected_call_says_when_to_come_again(mifos: FakeMifos, breakers: dict[tuple[str, str], Any]) -> None:
    breakers["maker", "get"].open()

    with pytest.raises(ServiceUnavailable) as raised:
        maker.get("clients")
    assert (raised.value.code, raised.value.sent, raised.value.retry_after > 1) == ("SERVICE_UNAVAILABLE", False, True)


def test_the_status_is_the_one_of_the_api(mifos: FakeMifos) -> None:
    maker.get("clients")

    assert get_circuit_breaker_status()["maker"]["get"]["stats"]["fires"] == 1


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError):
        _ = mifos_gateway.nothing


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "GÉT"])
def test_no_other_method_is_sent(mifos: FakeMifos, method: str) -> None:
    with pytest.raises(InvalidCall):
        maker.request(method, "clients")
