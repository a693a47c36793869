"""What of a call's target passes, and what could leave MIFOS's API."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifos_gateway import targets
from mifos_gateway.client import api_path
from mifos_gateway.refusals import InvalidPath, InvalidQuery


@pytest.mark.parametrize(
    "raw",
    [
        "..",
        "../users",
        "clients/..",
        "clients/../users",
        "./clients",
        "clients/.",
        "//evil.example/x",
        "/clients",
        "clients//1",
        "clients/%2e%2e/users",
        "%2E%2E/users",
        "clients%2f..%2fusers",
        "clients%2F1",
        "clients%5c1",
        "clients\\..\\users",
        "%252e%252e/users",
        "clients%25",
        "%2575sers",
        "clients%00",
        "clients%0d%0aHost:x",
        "clients%7f",
        "clients%c2%85",
        "clients%E2%80%A8",
        "clients\x00",
        "clients 1",
        "clients\r\n",
        "clients/é",
        "clients%c0%ae%c0%ae/",
        "clients%ff",
        "clients%2",
        "clients%zz",
        "clients#fragment",
        "http://evil.example/x",
        "https:%2f%2fevil.example",
        "http:/evil.example",
        "http%3A/evil.example",
        "..;/users",
        "clients/..;x=1/users",
        ".;/users",
        ";x/users",
        "clients/;x/users",
        "clients/..%20;x/",
        "",
        "/",
        "v1",
        "v1/",
        "api/v1",
        ";x",
        "?limit=1",
    ],
)
def test_a_path_that_could_leave_the_api_is_refused(raw: str) -> None:
    with pytest.raises(InvalidPath):
        targets.parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        "clients",
        "clients/",
        "clients/1/accounts?fields=id,name",
        "runreports/Client%20Listing",
        "runreports/Client+Listing",
        "search?query=a%20b+c",
        "search?query=%E0%A4%85%2F%25%0A&exactMatch=true",
        "clients/external-id/%E0%A4%86%E0%A4%B6%E0%A4%BE",
        "datatables/d_client,1/1",
        "clients/external-id/a.b..c",
        "clients/...",
        "clients/1;x=1",
        "v2/clients/search",
        "api/v1/clients",
        "search?query=//../%2e%2e",
    ],
)
def test_what_callers_need_passes_byte_for_byte(raw: str) -> None:
    assert targets.parse(raw).raw == raw


@pytest.mark.parametrize(
    ("raw", "version", "path"),
    [
        ("clients/1/", "v1", "clients/1"),
        ("v1/clients", "v1", "clients"),
        ("api/v1/clients", "v1", "clients"),
        ("API/V2/clients", "v2", "clients"),
        ("v2/clients/search", "v2", "clients/search"),
        ("v1clients", "v1", "v1clients"),
        ("%75sers;x=1/2", "v1", "users/2"),
        ("runreports/Client%20Listing", "v1", "runreports/Client Listing"),
    ],
)
def test_the_path_that_is_judged_is_decoded_and_bare(raw: str, version: str, path: str) -> None:
    target = targets.parse(raw)

    assert (target.version, target.path) == (version, path)


@pytest.mark.parametrize("other", ["v1/clients?a=1", "api/v1/clients?a=1", "clients/?a=1", "client%73?a=1"])
def test_spellings_of_one_call_have_one_canonical_form(other: str) -> None:
    assert targets.parse(other).canonical == targets.parse("clients?a=1").canonical


def test_versions_differ_canonically() -> None:
    assert targets.parse("v2/clients").canonical != targets.parse("clients").canonical


@pytest.mark.parametrize(
    "query",
    [
        "tenantIdentifier=other",
        "a=1&tenantIdentifier=other",
        "TENANTIDENTIFIER",
        "tenant%49dentifier=x",
        "tenant%2549dentifier=x",
        "a=1;tenantidentifier=x",
        "+tenantIdentifier=x",
        "%00tenantIdentifier=x",
    ],
)
def test_a_query_that_chooses_the_tenant_is_refused(query: str) -> None:
    with pytest.raises(InvalidQuery):
        targets.refuse_tenant_choice(query)


def test_the_tenants_name_may_be_a_value() -> None:
    targets.refuse_tenant_choice("query=tenantIdentifier&a=tenantIdentifier%3Dx")


segments = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\%.;"), min_size=1)


@given(st.lists(segments.filter(str.strip), min_size=1, max_size=5))
def test_any_encoded_segments_pass_and_are_understood(parts: list[str]) -> None:
    target = targets.parse("x/" + "/".join(quote(part, safe="") for part in parts))

    assert target.path == "/".join(["x", *parts])


nasty = st.lists(
    st.sampled_from(
        [*"./\\;%?#=&:@abv12", "..", "%2e", "%2F", "%5c", "%25", "%00", "%0a", "%3b", "%c0%ae", "//", "..;", "users"]
    ),
    max_size=12,
).map("".join)


@given(st.one_of(st.text(), nasty))
def test_what_passes_cannot_climb_for_any_server(raw: str) -> None:
    try:
        target = targets.parse(raw)
    except InvalidPath:
        return
    path = raw.partition("?")[0]
    for form in (path, _decoded(path), _decoded(_decoded(path)), _decoded(path).replace("\\", "/")):
        bare = [segment.partition(";")[0] for segment in form.split("/")]
        assert ".." not in bare
        assert "." not in bare
        assert "" not in bare[:-1]
    assert raw.isascii()
    assert raw.isprintable()
    assert target.raw == raw
    assert api_path(raw).startswith("/api/v")


def _decoded(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text, errors="replace")
