"""The sandbox answers as FINERACT.md says that Fineract does."""

import gzip
from base64 import b64decode
from collections.abc import Iterator

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.mifos_gateway.sandbox_http import Caller

LOANS = "loans/3/transactions?command=repayment"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0) as running:
        yield running


@pytest.fixture
def call(sandbox: Sandbox) -> Caller:
    return Caller(sandbox)


# The door


def test_it_says_that_it_is_a_sandbox(call: Caller) -> None:
    reply = call("GET", "/__sandbox", user=None, tenant=None)

    assert (reply.json, reply.headers["X-Mifos-Sandbox"]) == ({"sandbox": True}, "1")


@pytest.mark.parametrize("user", [None, "nobody"])
def test_an_unknown_user_gets_fineracts_401(call: Caller, user: str | None) -> None:
    reply = call("GET", "clients", user=user)

    assert (reply.status, reply.code) == (401, "error.msg.not.authenticated")
    assert reply.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("tenant", [None, "nowhere"])
def test_an_unknown_tenant_gets_the_servlet_containers_400(call: Caller, tenant: str | None) -> None:
    reply = call("GET", "clients", tenant=tenant)

    assert (reply.status, reply.headers.get_content_type()) == (400, "text/html")


def test_a_tenant_may_stand_in_the_query(call: Caller) -> None:
    assert call("GET", "offices/1?tenantIdentifier=default", tenant=None).status == 200


def test_tenants_have_banks_of_their_own(call: Caller) -> None:
    call("POST", "clients", {"fullname": "Only here"}, tenant="second")

    assert call("GET", "clients?limit=1").json["totalFilteredRecords"] == 60


def test_health_needs_neither_user_nor_tenant(call: Caller) -> None:
    reply = call("GET", "/fineract-provider/actuator/health", user=None, tenant=None)

    assert reply.json == {"status": "UP"}


def test_an_error_has_fineracts_shape(call: Caller) -> None:
    content = call("GET", "clients/999").json

    assert content["httpStatusCode"] == "404"
    assert content["userMessageGlobalisationCode"] == "error.msg.resource.not.found"
    assert content["errors"][0]["parameterName"] == "id"


def test_an_unknown_path_is_404(call: Caller) -> None:
    assert call("GET", "nothing/here").status == 404


def test_a_wrong_method_is_405(call: Caller) -> None:
    reply = call("PATCH", "loans/1", {})

    assert (reply.status, reply.code) == (405, "error.msg.invalid.instance.type")


def test_an_unknown_command_is_400(call: Caller) -> None:
    assert call("POST", "loans/1?command=explode", {}).status == 400


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_bad_json_is_a_bare_400(call: Caller, body: bytes) -> None:
    reply = call("POST", "clients", body)

    assert (reply.status, "errors" in reply.json) == (400, False)


# Reads


def test_a_page_has_200_rows_at_most_unless_asked(sandbox: Sandbox, call: Caller) -> None:
    for number in range(150):
        call("POST", "clients", {"fullname": f"Client {number}"})

    assert len(call("GET", "clients").json["pageItems"]) == 200
    assert len(call("GET", "clients?limit=-1").json["pageItems"]) == 210


def test_pages_are_ordered_and_cut(call: Caller) -> None:
    page = call("GET", "clients?offset=1&limit=2&orderBy=id&sortOrder=DESC&fields=id").json

    assert page == {"totalFilteredRecords": 60, "pageItems": [{"id": 59}, {"id": 58}]}


def test_a_resource_is_found_by_its_external_id(call: Caller) -> None:
    assert call("GET", "clients/external-id/client-7").json["id"] == 7


def test_a_client_shows_its_accounts(call: Caller) -> None:
    accounts = call("GET", "clients/7/accounts").json

    assert [accounts["loanAccounts"][0]["id"], accounts["savingsAccounts"][0]["id"]] == [7, 7]


def test_search_finds_by_part_of_a_name(call: Caller) -> None:
    hits = call("GET", "search?query=client-12&resource=clients").json

    assert [hit["entityId"] for hit in hits] == [12]


def test_version_2_searches_clients(call: Caller) -> None:
    page = call("POST", "/fineract-provider/api/v2/clients/search", {"request": {"text": "client-12"}}).json

    assert (page["totalElements"], page["content"][0]["id"]) == (1, 12)


def test_head_has_gets_headers_and_no_body(call: Caller) -> None:
    whole, head = call("GET", "clients/1"), call("HEAD", "clients/1")

    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]


def test_an_etag_that_still_holds_is_304(call: Caller) -> None:
    tag = call("GET", "clients/1").headers["ETag"]

    again = call("GET", "clients/1", headers={"If-None-Match": tag})

    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)


def test_an_etag_changes_with_the_resource(call: Caller) -> None:
    tag = call("GET", "clients/1").headers["ETag"]
    call("PUT", "clients/1", {"mobileNo": "123"})

    assert call("GET", "clients/1", headers={"If-None-Match": tag}).status == 200


def test_a_long_answer_is_compressed_for_those_who_ask(call: Caller) -> None:
    packed = call("GET", "clients", headers={"Accept-Encoding": "gzip"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == call("GET", "clients").body


def test_a_document_comes_byte_for_byte(call: Caller) -> None:
    reply = call("GET", "clients/1/documents/1/attachment")

    assert reply.headers["Content-Disposition"] == 'attachment; filename="contract.pdf"'
    assert reply.body.endswith(bytes(range(256)))


@pytest.mark.parametrize("extra", ["", "&R_chunked=true"])
def test_a_report_is_as_large_as_asked(call: Caller, extra: str) -> None:
    reply = call("GET", f"runreports/Client%20Listing?R_rows=50000{extra}")

    assert len(reply.json["data"]) == 50_000
    assert ("Content-Length" in reply.headers) is not bool(extra)


def test_echo_shows_what_arrived(call: Caller) -> None:
    reply = call("PATCH", "__echo/a%2Fb//c?x=%20&x=1", b"\x00\xff", headers={"X-Request-ID": "abc"})

    seen = reply.json
    assert (seen["method"], seen["target"]) == ("PATCH", "/fineract-provider/api/v1/__echo/a%2Fb//c?x=%20&x=1")
    assert (seen["headers"]["x-request-id"], seen["headers"]["authorization"]) == ("abc", "maker")
    assert b64decode(seen["body"]) == b"\x00\xff"


def test_echo_answers_with_the_status_and_headers_asked_for(call: Caller) -> None:
    reply = call("GET", "/__echo?__status=302&__header=Location:/elsewhere&__header=Set-Cookie:a=b", user=None)

    assert (reply.status, reply.headers["Location"], reply.headers["Set-Cookie"]) == (302, "/elsewhere", "a=b")


# Writes


def test_a_client_lives_from_pending_to_deleted(call: Caller) -> None:
    created = call("POST", "clients", {"firstname": "Ada", "lastname": "Abara", "externalId": "mine"}).json
    path = f"clients/{created['clientId']}"

    assert created == {"officeId": 1, "clientId": 61, "resourceId": 61, "resourceExternalId": "mine"}
    assert call("PATCH", path, {"lastname": "Banda"}).json["changes"] == {"lastname": "Banda"}
    assert call("GET", path).json["displayName"] == "Ada Banda"
    assert call("DELETE", path).status == 200
    assert call("GET", path).status == 404


def test_a_duplicate_external_id_is_a_data_integrity_403(call: Caller) -> None:
    reply = call("POST", "clients", {"fullname": "Twice", "externalId": "client-1"})

    assert reply.status == 403
    assert reply.json["userMessageGlobalisationCode"] == "error.msg.client.duplicate.externalId"


def test_a_missing_field_is_a_validation_error_that_names_it(call: Caller) -> None:
    reply = call("POST", "loans", {"clientId": 1, "productId": 1})

    assert (reply.status, reply.json["errors"][0]["parameterName"]) == (400, "principal")


def test_a_loan_is_asked_for_approved_disbursed_and_repaid(call: Caller) -> None:
    loan = call("POST", "loans", {"clientId": 1, "productId": 1, "principal": "1,000"}).json["loanId"]
    call("POST", f"loans/{loan}?command=approve", {"approvedOnDate": "24 October 2024"}, user="checker")
    call("POST", f"loans/{loan}?command=disburse", {})
    owed = call("GET", f"loans/{loan}").json["summary"]["totalOutstanding"]
    call("POST", f"loans/{loan}/transactions?command=repayment", {"transactionAmount": owed})

    final = call("GET", f"loans/{loan}?associations=all").json
    assert (owed, final["status"]["id"], final["summary"]["totalOutstanding"]) == (1120.0, 600, 0.0)
    assert [row["type"]["value"] for row in final["transactions"]] == ["disbursement", "repayment"]


def test_an_undone_repayment_is_owed_again(call: Caller) -> None:
    paid = call("POST", LOANS, {"transactionAmount": 200}).json["resourceId"]
    call("POST", f"loans/3/transactions/{paid}?command=undo", {})

    assert call("GET", "loans/3").json["summary"]["totalOutstanding"] == 11_200


def test_a_loan_in_the_wrong_state_is_a_domain_rule_403(call: Caller) -> None:
    reply = call("POST", "loans/1?command=disburse", {})

    assert (reply.status, reply.json["userMessageGlobalisationCode"]) == (403, "validation.msg.domain.rule.violation")


def test_a_schedule_is_a_read(sandbox: Sandbox, call: Caller) -> None:
    schedule = call("POST", "loans?command=calculateLoanSchedule", {"productId": 1, "principal": 100}).json

    assert sum(period["principalDue"] for period in schedule["periods"]) == pytest.approx(100)
    assert sandbox.ledger() == []


def test_savings_move_and_never_below_zero(call: Caller) -> None:
    call("POST", "savingsaccounts/5/transactions?command=deposit", {"transactionAmount": 50})
    refused = call("POST", "savingsaccounts/5/transactions?command=withdrawal", {"transactionAmount": 1051})

    assert (refused.status, refused.code.endswith(".insufficient.account.balance")) == (403, True)
    assert call("GET", "savingsaccounts/5").json["summary"]["accountBalance"] == 1050


def test_an_office_is_opened_and_renamed(call: Caller) -> None:
    office = call("POST", "offices", {"name": "Hill Branch", "openingDate": "2024-01-31"}).json["officeId"]
    call("PUT", f"offices/{office}", {"name": "Valley Branch"})

    seen = call("GET", f"offices/{office}").json
    assert (seen["name"], seen["openingDate"]) == ("Valley Branch", [2024, 1, 31])


def test_a_bad_date_leaves_nothing_behind(sandbox: Sandbox, call: Caller) -> None:
    call("POST", "clients", {"fullname": "Late", "active": True, "activationDate": "soon"})

    assert call("GET", "clients?limit=1").json["totalFilteredRecords"] == 60
    assert sandbox.ledger() == []


def test_the_maker_may_not_approve_a_loan(call: Caller) -> None:
    reply = call("POST", "loans/1?command=approve", {})

    assert (reply.status, reply.code) == (403, "error.msg.not.authorized")


def test_authentication_gives_the_reusable_key(call: Caller) -> None:
    reply = call("POST", "authentication", {"username": "maker", "password": "sandbox-maker"}, user=None)

    assert b64decode(reply.json["base64EncodedAuthenticationKey"]) == b"maker:sandbox-maker"


# What a test asks afterwards


def test_every_effect_is_one_row_of_the_ledger(sandbox: Sandbox, call: Caller) -> None:
    call("POST", "loans/999/transactions?command=repayment", {"transactionAmount": 5})
    call.keyed(LOANS, {"transactionAmount": 5, "note": "mine"}, "k-1")

    [row] = sandbox.ledger()
    assert (row["action"], row["entity"], row["id"], row["amount"], row["key"]) == ("REPAYMENT", "LOAN", 3, 5, "k-1")
    assert call("GET", "/__ledger").json["effects"] == [row]


def test_every_request_is_remembered(sandbox: Sandbox, call: Caller) -> None:
    call("GET", "clients?x=%20", headers={"X-Request-ID": "r-1"}, user="checker")

    [row] = sandbox.requests()
    assert (row["method"], row["target"]) == ("GET", "/fineract-provider/api/v1/clients?x=%20")
    assert (row["user"], row["tenant"], row["requestId"]) == ("checker", "default", "r-1")


def test_remembered_requests_are_forgotten_on_demand(call: Caller) -> None:
    call("GET", "clients")
    call("DELETE", "/__requests")

    assert call("GET", "/__requests").json["count"] == 0


def test_a_reset_brings_the_first_day_back(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set(maker_checker=True)
    call("DELETE", "/__requests")
    call("POST", "/__reset")

    assert (sandbox.settings.maker_checker, sandbox.ledger(), sandbox.requests()) == (False, [], [])


@pytest.mark.parametrize("content", [{"maker_checker": 1}, {"nonsense": True}, []])
def test_a_bad_setting_is_named(call: Caller, content: object) -> None:
    reply = call("POST", "/__settings", content)

    assert (reply.status, reply.json["field"] in ("maker_checker", "nonsense", "body")) == (400, True)
