"""Fineract's REST API over the sandbox's bank: tenant, authentication, routes, commands, maker-checker."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote

from .bank import CLIENT_DECISIONS, LOAN_CREDITS, LOAN_DECISIONS, SAVINGS_DECISIONS, Bank, Record
from .errors import (
    BadJson,
    BadRequest,
    FineractError,
    InvalidMethod,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    detail,
    invalid,
    missing,
)
from .idempotency import Command, Commands, Result
from .messages import CONTEXT_PATH, Answer, Request, html_answer, json_answer
from .records import Ledger
from .settings import Settings

PASSWORDS = {"maker": "sandbox-maker", "checker": "sandbox-checker"}
USER_IDS = {"maker": 1, "checker": 2}
TENANTS = ("default", "second")
DEFAULT_LIMIT = 200
# A maker asks, a checker decides; all else both may do, as in many a real installation.
MAKER_MAY_NOT = {("APPROVE", "LOAN"), ("APPROVE", "SAVINGSACCOUNT")}
SAMPLE_DOCUMENT = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 16

Effect: TypeAlias = Callable[[Bank, list[int], Mapping[str, Any]], Record]


@dataclass
class Tenant:
    bank: Bank
    commands: Commands = field(default_factory=Commands)
    documents: dict[tuple[int, int], tuple[str, bytes]] = field(
        default_factory=lambda: {(1, 1): ("contract.pdf", SAMPLE_DOCUMENT)}
    )


@dataclass(frozen=True)
class Spoil:
    """What a fault does to a command from inside.

    `crash`: the effect is done, its row never says so, and the key stays UNDER_PROCESSING.
    `burn`: no effect; this answer is stored as the command's error.
    """

    crash: bool = False
    burn: Answer | None = None


@dataclass(frozen=True)
class Call:
    """One authenticated request on its way to a route."""

    request: Request
    user: str
    tenant_name: str
    tenant: Tenant
    spoil: Spoil
    ids: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def bank(self) -> Bank:
        return self.tenant.bank

    def payload(self) -> dict[str, Any]:
        try:
            payload = json.loads(self.request.body or b"{}")
        except ValueError:
            raise BadJson() from None
        if not isinstance(payload, dict):
            raise BadJson()
        return payload


@dataclass(frozen=True)
class Route:
    """`command` is the query's `?command=`; "" where the route takes none."""

    method: str
    template: str
    handle: Callable[["Api", Call], Answer]
    command: str = ""


def command(method: str, template: str, name: str, action: str, entity: str, effect: Effect) -> Route:
    """A write that goes through Fineract's command log, so that it honours Idempotency-Key and maker-checker."""

    def handle(api: "Api", call: Call) -> Answer:
        return api.run(call, action, entity, effect)

    return Route(method, template, handle, name)


class Api:
    """Answers what Fineract would."""

    def __init__(self, settings: Settings, ledger: Ledger, *, pause: Callable[[float], None]) -> None:
        self.settings = settings
        self.ledger = ledger
        self.tenants = {name: Tenant(Bank(name)) for name in TENANTS}
        self._pause = pause

    def handle(self, request: Request, spoil: Spoil = Spoil()) -> Answer:
        try:
            return _conditional(request, self._dispatch(request, spoil))
        except FineractError as error:
            return error.answer()
        except Exception as error:
            return _unmapped(error)

    def _dispatch(self, request: Request, spoil: Spoil) -> Answer:
        path = request.path.removeprefix(CONTEXT_PATH)
        if path == request.path:
            return html_answer(404, "Not Found")
        if re.fullmatch(r"/actuator/health(/(liveness|readiness))?", path):
            return json_answer({"status": "UP"})
        prefix = re.match(r"/api/v[12]/", path)
        if prefix is None:
            return html_answer(404, "Not Found")
        if request.tenant not in self.tenants:
            return html_answer(400, "Bad Request")  # by the servlet container, before Fineract's error mapping
        call = Call(request, self._user(request, path), str(request.tenant), self.tenants[str(request.tenant)], spoil)
        segments = [unquote(segment) for segment in path[prefix.end() :].split("/")]
        if segments[0] == "__echo":
            return echo(request)
        version = "" if prefix[0] == "/api/v1/" else "v2/"
        return self._route(call, version, _without_external_id(call.bank, segments))

    def _user(self, request: Request, path: str) -> str:
        if path == "/api/v1/authentication":
            return "anonymous"
        username, password = request.credentials or ("", "")
        if PASSWORDS.get(username) != password:
            raise NotAuthenticated()
        return username

    def _route(self, call: Call, version: str, segments: list[str]) -> Answer:
        method = "GET" if call.request.method == "HEAD" else call.request.method
        wanted = call.request.param("command")
        matches = [
            (route, found) for route in ROUTES if (found := _match(version, route.template, segments)) is not None
        ]
        if not matches:
            raise NotFound("error.msg.resource.not.found", f"There is nothing at {call.request.path}")
        matches = [match for match in matches if match[0].method == method]
        if not matches:
            raise InvalidMethod(method)
        for route, found in matches:
            if route.command in ("", wanted) and (route.command or not wanted or len(matches) == 1):
                ids, names = (
                    [part for part in found if isinstance(part, int)],
                    [part for part in found if isinstance(part, str)],
                )
                return route.handle(
                    self, Call(call.request, call.user, call.tenant_name, call.tenant, call.spoil, ids, names)
                )
        message = f"The query parameter command has an unsupported value of: {wanted}"
        raise BadRequest(
            detail("error.msg.query.parameter.value.unsupported", message, parameter="command", value=wanted)
        )

    # Commands

    def run(self, call: Call, action: str, entity: str, effect: Effect) -> Answer:
        """Fineract's order: permission and JSON first (they burn no key), then the row, then the effect."""
        if call.user == "maker" and (action, entity) in MAKER_MAY_NOT:
            raise NotAuthorized(f"{action}_{entity}")
        payload = call.payload()
        claimed = call.tenant.commands.claim(
            patience=self.settings.conflict_seconds,
            action=action,
            entity=entity,
            key=call.request.idempotency_key,
            user=call.user,
            resource_id=call.ids[0] if call.ids else None,
            payload=payload,
            body=call.request.body,
            effect=lambda: effect(call.bank, call.ids, payload),
        )
        if isinstance(claimed, Answer):
            return claimed
        if self.settings.maker_checker:
            return self._await_approval(call, claimed)
        return self._carry_out(call, claimed)

    def _await_approval(self, call: Call, row: Command) -> Answer:
        with _errors_stored(call, row), call.bank.rehearsal():
            row.effect()
        call.tenant.commands.finish(row, Result.AWAITING_APPROVAL)
        return json_answer({"commandId": row.id, "rollbackTransaction": True})

    def _carry_out(self, call: Call, row: Command) -> Answer:
        self._pause(self.settings.processing_seconds)
        if call.spoil.burn is not None:
            call.tenant.commands.finish(row, Result.ERROR, call.spoil.burn)
            return call.spoil.burn
        with _errors_stored(call, row):
            answer = json_answer(self._effect(call, row))
        if not call.spoil.crash:
            call.tenant.commands.finish(row, Result.PROCESSED, answer)
        return answer

    def _effect(self, call: Call, row: Command) -> Record:
        with call.bank.lock:  # the ledger's order is the order of the effects
            result = row.effect()
            row.resource_id = row.resource_id or result["resourceId"]
            self.ledger.add(
                tenant=call.tenant_name,
                action=row.action,
                entity=row.entity,
                id=row.resource_id,
                resourceId=result["resourceId"],
                amount=next(
                    (row.payload[name] for name in ("transactionAmount", "principal") if name in row.payload), None
                ),
                key=row.key,
                externalId=row.payload.get("externalId"),
                note=row.payload.get("note"),
                user=row.user,
                checker=row.checker,
                commandId=row.id,
            )
            return result

    # Maker-checker and audits

    def inbox(self, call: Call) -> Answer:
        rows = (row for row in call.tenant.commands.all() if row.result is Result.AWAITING_APPROVAL)
        return json_answer([_audit(row) for row in _filtered(rows, call.request)])

    def approve(self, call: Call) -> Answer:
        return self._carry_out(call, self._taken(call))

    def reject(self, call: Call) -> Answer:
        row = self._taken(call)
        call.tenant.commands.finish(row, Result.REJECTED)
        return json_answer({"commandId": row.id})

    def drop(self, call: Call) -> Answer:
        row = self._taken(call)
        call.tenant.commands.delete(row.id)
        return json_answer({"commandId": row.id})

    def _taken(self, call: Call) -> Command:
        identifier = call.ids[0]
        row = call.tenant.commands.get(identifier)
        if row is None or row.result is not Result.AWAITING_APPROVAL:
            raise _not_awaiting(identifier)
        if row.user == call.user:
            message = "Can not be checked by the same user."
            raise BadRequest(detail("error.msg.command.unsupported", message, parameter="command"))
        # Fineract asks for the permission first; here the same user comes first, so that the maker meets that answer too.
        if call.user != "checker":
            raise NotAuthorized(f"{row.action}_{row.entity}_CHECKER")
        taken = call.tenant.commands.take(identifier, checker=call.user)
        if taken is None:
            raise _not_awaiting(identifier)
        return taken

    def audit(self, call: Call) -> Answer:
        row = call.tenant.commands.get(call.ids[0])
        if row is None:
            raise missing("audit", call.ids[0])
        return json_answer(_audit(row))

    def audits(self, call: Call) -> Answer:
        rows = [_audit(row) for row in _filtered(call.tenant.commands.all(), call.request)]
        return json_answer(_page(rows, call.request) if call.request.flag("paged") else rows)

    # Reads

    def authenticate(self, call: Call) -> Answer:
        payload = call.payload()
        username, password = str(payload.get("username")), payload.get("password")
        if PASSWORDS.get(username) != password:
            raise NotAuthenticated()
        key = base64.b64encode(f"{username}:{password}".encode()).decode()
        return json_answer(
            {
                "username": username,
                "userId": USER_IDS[username],
                "base64EncodedAuthenticationKey": key,
                "authenticated": True,
            }
            | {"officeId": 1, "officeName": call.bank.books.offices[1]["name"], "roles": [], "permissions": []}
        )

    def schedule(self, call: Call) -> Answer:
        with call.bank.lock:
            return json_answer(call.bank.loan_schedule(call.payload()))

    def accounts(self, call: Call) -> Answer:
        with call.bank.lock:
            return json_answer(call.bank.accounts_of(call.ids[0]))

    def search(self, call: Call) -> Answer:
        text, resources = (
            call.request.param("query").lower(),
            call.request.param("resource", "clients,loans,savings").split(","),
        )
        with call.bank.lock:
            return json_answer(
                [hit for name in resources for hit in _hits(call.bank, name, text, call.request.flag("exactMatch"))]
            )

    def search_clients(self, call: Call) -> Answer:
        payload = call.payload()
        wanted = payload.get("request")
        text = str(wanted.get("text", "")).lower() if isinstance(wanted, dict) else ""
        with call.bank.lock:
            found = [
                row
                for row in call.bank.books.clients.values()
                if text in f"{row['displayName']} {row['externalId']}".lower()
            ]
            return json_answer(_spring_page(found, int(payload.get("page", 0)), int(payload.get("size", 50))))

    def report(self, call: Call) -> Answer:
        """`R_rows=100000` makes it large, `R_chunked=true` sends it without a length, `exportCSV=true` as CSV."""
        rows = [
            [number, f"Row {number} of {call.names[0]}", number * 10.0]
            for number in range(1, _whole(call.request, "R_rows", 10) + 1)
        ]
        if call.request.flag("exportCSV"):
            text = "\n".join(["id,name,amount", *(",".join(map(str, row)) for row in rows)])
            named = ("Content-Disposition", f'attachment; filename="{call.names[0].replace(chr(34), "")}.csv"')
            return Answer(200, text.encode(), "text/csv", (named,), call.request.flag("R_chunked"))
        columns = [
            {"columnName": name, "columnType": kind}
            for name, kind in (("id", "BIGINT"), ("name", "VARCHAR"), ("amount", "DECIMAL"))
        ]
        answer = json_answer({"columnHeaders": columns, "data": [{"row": row} for row in rows]})
        return Answer(200, answer.body, answer.content_type, (), call.request.flag("R_chunked"))

    # Documents: multipart, so without a command row, Idempotency-Key and maker-checker

    def documents(self, call: Call) -> Answer:
        owned = {
            document: name for (client, document), (name, _) in call.tenant.documents.items() if client == call.ids[0]
        }
        return json_answer(
            [{"id": document, "parentEntityType": "clients", "fileName": name} for document, name in owned.items()]
        )

    def upload(self, call: Call) -> Answer:
        with call.bank.lock:
            call.bank.find("clients", call.ids[0])
            number = max((document for _, document in call.tenant.documents), default=0) + 1
            call.tenant.documents[call.ids[0], number] = (f"document-{number}", call.request.body)
            self.ledger.add(
                tenant=call.tenant_name, action="CREATE", entity="DOCUMENT", id=call.ids[0], resourceId=number, key=None
            )
        return json_answer({"resourceId": number, "resourceIdentifier": str(number)})

    def attachment(self, call: Call) -> Answer:
        client, number = call.ids
        if (client, number) not in call.tenant.documents:
            raise missing("document", number)
        name, content = call.tenant.documents[client, number]
        return Answer(200, content, "application/pdf", (("Content-Disposition", f'attachment; filename="{name}"'),))


@contextmanager
def _errors_stored(call: Call, row: Command) -> Iterator[None]:
    """A command's error stays with its key."""
    try:
        yield
    except FineractError as error:
        call.tenant.commands.finish(row, Result.ERROR, error.answer())
        raise
    except Exception as error:
        call.tenant.commands.finish(row, Result.ERROR, _unmapped(error))
        raise


def _unmapped(error: Exception) -> Answer:
    """Fineract's catch-all says no more either."""
    return json_answer({"Exception": repr(error)}, 500)


def echo(request: Request) -> Answer:
    """What arrived, as JSON; `?__status=302&__header=Location:/x` makes the answer's status and headers."""
    headers = {name: value for name, value in request.headers.items() if name != "authorization"}
    if "authorization" in request.headers:
        headers["authorization"] = str(request.username)
    seen = {
        "method": request.method,
        "target": request.target,
        "headers": headers,
        "body": base64.b64encode(request.body).decode(),
    }
    extra = [header.partition(":")[::2] for header in request.query.get("__header", [])]
    safe = tuple((name.strip(), value.strip()) for name, value in extra if not re.search(r"[\r\n]", name + value))
    return json_answer(seen, _whole(request, "__status", 200)).having(*safe)


# The routes


def listing(table: str, *, paged: bool = True) -> Route:
    def handle(api: Api, call: Call) -> Answer:
        with call.bank.lock:
            rows = _selected(call.bank.table(table).values(), call.request)
            return json_answer(_page(rows, call.request) if paged else rows)

    return Route("GET", table, handle)


def single(table: str, transactions: str | None = None) -> Route:
    def handle(api: Api, call: Call) -> Answer:
        with call.bank.lock:
            record = call.bank.find(table, call.ids[0])
            if transactions and call.request.param("associations") in ("all", "transactions"):
                record = record | {"transactions": call.bank.transactions_of(transactions, call.ids[0])}
            return json_answer(_fields(record, call.request))

    return Route("GET", f"{table}/{{id}}", handle)


def transactions(table: str, rows: str, template: str) -> Route:
    def handle(api: Api, call: Call) -> Answer:
        with call.bank.lock:
            call.bank.find(table, call.ids[0])
            found = call.bank.transactions_of(rows, call.ids[0])
            return json_answer(_spring_page(found, _whole(call.request, "page", 0), _whole(call.request, "size", 20)))

    return Route("GET", template, handle)


def transaction(table: str, rows: str) -> Route:
    def handle(api: Api, call: Call) -> Answer:
        account, number = call.ids
        with call.bank.lock:
            call.bank.find(table, account)
            found = [row for row in call.bank.transactions_of(rows, account) if row["id"] == number]
            if not found:
                raise missing("transaction", number)
            return json_answer(found[0])

    return Route("GET", f"{table}/{{id}}/transactions/{{id}}", handle)


def _decide_client(name: str) -> Route:
    effect: Effect = lambda bank, ids, payload: bank.decide_client(ids[0], name, payload)  # noqa: E731
    return command("POST", "clients/{id}", name, name.upper(), "CLIENT", effect)


def _decide_loan(name: str) -> Route:
    action = {"undoapproval": "APPROVALUNDO", "withdrawnByApplicant": "WITHDRAW"}.get(name, name.upper())
    return command(
        "POST", "loans/{id}", name, action, "LOAN", lambda bank, ids, payload: bank.decide_loan(ids[0], name, payload)
    )


def _decide_savings(name: str) -> Route:
    effect: Effect = lambda bank, ids, payload: bank.decide_savings(ids[0], name, payload)  # noqa: E731
    return command("POST", "savingsaccounts/{id}", name, name.upper(), "SAVINGSACCOUNT", effect)


def _credit_loan(name: str) -> Route:
    effect: Effect = lambda bank, ids, payload: bank.credit_loan(ids[0], name, payload)  # noqa: E731
    return command("POST", "loans/{id}/transactions", name, name.upper(), "LOAN", effect)


def _move_savings(name: str) -> Route:
    effect: Effect = lambda bank, ids, payload: bank.move_savings(ids[0], name, payload)  # noqa: E731
    return command("POST", "savingsaccounts/{id}/transactions", name, name.upper(), "SAVINGSACCOUNT", effect)


ROUTES = (
    Route("POST", "authentication", Api.authenticate),
    listing("clients"),
    single("clients"),
    command("POST", "clients", "", "CREATE", "CLIENT", lambda bank, ids, payload: bank.create_client(payload)),
    command(
        "PUT", "clients/{id}", "", "UPDATE", "CLIENT", lambda bank, ids, payload: bank.update_client(ids[0], payload)
    ),
    # Fineract has no PATCH at all; this one is here so that something answers a PATCH well.
    command(
        "PATCH", "clients/{id}", "", "UPDATE", "CLIENT", lambda bank, ids, payload: bank.update_client(ids[0], payload)
    ),
    command("DELETE", "clients/{id}", "", "DELETE", "CLIENT", lambda bank, ids, payload: bank.delete_client(ids[0])),
    *map(_decide_client, CLIENT_DECISIONS),
    Route("GET", "clients/{id}/accounts", Api.accounts),
    Route("GET", "clients/{id}/documents", Api.documents),
    Route("POST", "clients/{id}/documents", Api.upload),
    Route("GET", "clients/{id}/documents/{id}/attachment", Api.attachment),
    Route("POST", "v2/clients/search", Api.search_clients),
    listing("loans"),
    single("loans", "loan_transactions"),
    Route("POST", "loans", Api.schedule, "calculateLoanSchedule"),
    command("POST", "loans", "", "CREATE", "LOAN", lambda bank, ids, payload: bank.create_loan(payload)),
    *map(_decide_loan, LOAN_DECISIONS),
    command(
        "POST",
        "loans/{id}",
        "disburse",
        "DISBURSE",
        "LOAN",
        lambda bank, ids, payload: bank.disburse_loan(ids[0], payload),
    ),
    transactions("loans", "loan_transactions", "loans/{id}/transactions"),
    transaction("loans", "loan_transactions"),
    *map(_credit_loan, LOAN_CREDITS),
    command(
        "POST",
        "loans/{id}/transactions/{id}",
        "undo",
        "ADJUST",
        "LOAN",
        lambda bank, ids, payload: bank.undo_loan_transaction(*ids),
    ),
    listing("savingsaccounts"),
    single("savingsaccounts", "savings_transactions"),
    command(
        "POST",
        "savingsaccounts",
        "",
        "CREATE",
        "SAVINGSACCOUNT",
        lambda bank, ids, payload: bank.create_savings(payload),
    ),
    *map(_decide_savings, SAVINGS_DECISIONS),
    transactions("savingsaccounts", "savings_transactions", "savingsaccounts/{id}/transactions/search"),
    transaction("savingsaccounts", "savings_transactions"),
    *map(_move_savings, ("deposit", "withdrawal")),
    listing("offices", paged=False),
    single("offices"),
    command("POST", "offices", "", "CREATE", "OFFICE", lambda bank, ids, payload: bank.create_office(payload)),
    command(
        "PUT", "offices/{id}", "", "UPDATE", "OFFICE", lambda bank, ids, payload: bank.update_office(ids[0], payload)
    ),
    listing("loanproducts", paged=False),
    single("loanproducts"),
    listing("users", paged=False),
    single("users"),
    command("POST", "users", "", "CREATE", "USER", lambda bank, ids, payload: bank.create_user(payload)),
    Route("GET", "search", Api.search),
    Route("GET", "runreports/{name}", Api.report),
    Route("GET", "makercheckers", Api.inbox),
    Route("POST", "makercheckers/{id}", Api.approve, "approve"),
    Route("POST", "makercheckers/{id}", Api.reject, "reject"),
    Route("DELETE", "makercheckers/{id}", Api.drop),
    Route("GET", "audits", Api.audits),
    Route("GET", "audits/{id}", Api.audit),
)


def _match(version: str, template: str, segments: list[str]) -> list[int | str] | None:
    """The ids and names in the path where it fits the template, else None."""
    expected = template.split("/")
    given = [*version.rstrip("/").split("/"), *segments] if version else segments
    if len(expected) != len(given):
        return None
    found: list[int | str] = []
    for wanted, part in zip(expected, given, strict=True):
        if wanted == "{id}" and re.fullmatch(r"[0-9]{1,18}", part):
            found.append(int(part))
        elif wanted == "{name}" and part:
            found.append(part)
        elif wanted != part:
            return None
    return found


def _without_external_id(bank: Bank, segments: list[str]) -> list[str]:
    """`clients/external-id/x/…` is `clients/{id}/…`."""
    if (
        len(segments) < 3
        or segments[1] != "external-id"
        or segments[0] not in ("clients", "loans", "savingsaccounts", "offices")
    ):
        return segments
    with bank.lock:
        return [segments[0], str(bank.id_of(segments[0], segments[2])), *segments[3:]]


def _conditional(request: Request, answer: Answer) -> Answer:
    """ETag and 304. Fineract has none; proxies in front of it do."""
    if request.method not in ("GET", "HEAD") or answer.status != 200 or answer.chunked:
        return answer
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    if tag in [candidate.strip() for candidate in request.headers.get("if-none-match", "").split(",")]:
        return Answer(304, b"", None, (("ETag", tag),))
    return answer.having(("ETag", tag))


def _whole(request: Request, name: str, default: int) -> int:
    given = request.param(name) or str(default)
    try:
        return int(given)
    except ValueError:
        raise invalid(name, f"The parameter `{name}` is not a number.", given) from None


def _selected(rows: Iterable[Record], request: Request) -> list[Record]:
    """The rows that the equality filters of the query let through."""
    wanted = {
        name: request.param(name)
        for name in ("externalId", "officeId", "clientId", "displayName", "accountNo")
        if request.param(name)
    }
    return [row for row in rows if all(str(row.get(name)) == value for name, value in wanted.items())]


def _page(rows: list[Record], request: Request) -> Record:
    order = request.param("orderBy")
    if order:
        rows = sorted(
            rows, key=lambda row: _sortable(row.get(order)), reverse=request.param("sortOrder").upper() == "DESC"
        )
    offset, limit = max(_whole(request, "offset", 0), 0), _whole(request, "limit", DEFAULT_LIMIT)
    items = rows[offset : offset + limit] if limit > 0 else rows[offset:]
    return {"totalFilteredRecords": len(rows), "pageItems": [_fields(row, request) for row in items]}


def _sortable(value: Any) -> tuple[bool, float, str]:
    number = float(value) if isinstance(value, int | float) else 0.0
    return (value is not None, number, str(value))


def _spring_page(rows: list[Record], page: int, size: int) -> Record:
    size = size if size > 0 else 20
    content = rows[max(page, 0) * size : (max(page, 0) + 1) * size]
    pages = -(-len(rows) // size)
    return {
        "content": content,
        "totalElements": len(rows),
        "totalPages": pages,
        "number": page,
        "size": size,
        "numberOfElements": len(content),
        "first": page <= 0,
        "last": page >= pages - 1,
        "empty": not content,
    }


def _fields(record: Record, request: Request) -> Record:
    wanted = request.param("fields")
    return {name: record[name] for name in wanted.split(",") if name in record} if wanted else record


def _hits(bank: Bank, resource: str, text: str, exact: bool) -> list[Record]:
    table, kind = {
        "clients": ("clients", "CLIENT"),
        "loans": ("loans", "LOAN"),
        "savings": ("savingsaccounts", "SAVING"),
    }.get(resource, ("", ""))
    hits = []
    for row in bank.table(table).values() if table else ():
        named = row.get("displayName") or row.get("clientName")
        words = [str(word).lower() for word in (named, row["accountNo"], row["externalId"])]
        if text in words if exact else any(text in word for word in words):
            hits.append(
                {"entityId": row["id"], "entityAccountNo": row["accountNo"], "entityExternalId": row["externalId"]}
                | {"entityName": named, "entityType": kind, "entityStatus": row["status"]}
            )
    return hits


def _filtered(rows: Iterable[Command], request: Request) -> list[Command]:
    wanted = {
        name: request.param(name) for name in ("actionName", "entityName", "resourceId", "makerId", "processingResult")
    }

    def fits(row: Command) -> bool:
        has = {
            "actionName": row.action,
            "entityName": row.entity,
            "resourceId": row.resource_id,
            "makerId": USER_IDS[row.user],
        }
        has["processingResult"] = int(row.result)
        return all(not value or str(has[name]).lower() == value.lower() for name, value in wanted.items())

    return [row for row in rows if fits(row)]


def _audit(row: Command) -> Record:
    checked = (
        {"checker": row.checker, "checkedOnDate": row.checked_at.timestamp() * 1000}
        if row.checker and row.checked_at
        else {}
    )
    return {
        "id": row.id,
        "actionName": row.action,
        "entityName": row.entity,
        "resourceId": row.resource_id,
        "maker": row.user,
        "madeOnDate": row.made_at.timestamp() * 1000,
        "processingResult": row.result.title,
        "commandAsJson": json.dumps(row.payload),
    } | checked


def _not_awaiting(identifier: int) -> NotFound:
    return NotFound(
        "error.msg.command.id.not.awaiting.approval",
        f"Command with id {identifier} is not awaiting approval",
        identifier,
    )
