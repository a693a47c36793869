"""Reading: paging, filters, search, reports, documents, echo. Nothing here changes the books."""

import base64
import re
from collections.abc import Callable, Iterable
from typing import Any

from . import clients, loans
from .call import PASSWORDS, USER_IDS, Call
from .errors import NotAuthenticated, invalid, missing
from .messages import Answer, Request, json_answer
from .terms import Record

DEFAULT_LIMIT = 200
EQUAL_FILTERS = ("externalId", "officeId", "clientId", "displayName", "accountNo")
SEARCHED = {"clients": ("clients", "CLIENT"), "loans": ("loans", "LOAN"), "savings": ("savingsaccounts", "SAVING")}
REPORT_COLUMNS = (("id", "BIGINT"), ("name", "VARCHAR"), ("amount", "DECIMAL"))


def listing(table: str, *, paged: bool = True) -> Callable[[Call], Answer]:
    def read(call: Call) -> Answer:
        with call.bank.lock:
            rows = _selected(call.bank.table(table).values(), call.request)
            return json_answer(page(rows, call.request) if paged else [_fields(row, call.request) for row in rows])

    return read


def single(table: str, transactions: str | None = None) -> Callable[[Call], Answer]:
    def read(call: Call) -> Answer:
        with call.bank.lock:
            record = call.bank.find(table, call.ids[0])
            if transactions and call.request.param("associations") in ("all", "transactions"):
                record = record | {"transactions": call.bank.transactions_of(transactions, call.ids[0])}
            return json_answer(_fields(record, call.request))

    return read


def transactions(table: str, rows: str) -> Callable[[Call], Answer]:
    def read(call: Call) -> Answer:
        with call.bank.lock:
            call.bank.find(table, call.ids[0])
            found = call.bank.transactions_of(rows, call.ids[0])
            return json_answer(_spring_page(found, whole(call.request, "page", 0), whole(call.request, "size", 20)))

    return read


def transaction(rows: str) -> Callable[[Call], Answer]:
    def read(call: Call) -> Answer:
        with call.bank.lock:
            return json_answer(call.bank.transaction_of(rows, *call.ids))

    return read


def client_accounts(call: Call) -> Answer:
    with call.bank.lock:
        return json_answer(clients.accounts(call.bank, call.ids[0]))


def loan_schedule(call: Call) -> Answer:
    with call.bank.lock:
        return json_answer(loans.schedule(call.bank, call.payload()))


def authentication(call: Call) -> Answer:
    payload = call.payload()
    username, password = str(payload.get("username")), str(payload.get("password"))
    if PASSWORDS.get(username) != password:
        raise NotAuthenticated()
    office = call.bank.find("offices", 1)
    content = {
        "username": username,
        "userId": USER_IDS[username],
        "base64EncodedAuthenticationKey": base64.b64encode(f"{username}:{password}".encode()).decode(),
        "authenticated": True,
        "officeId": office["id"],
        "officeName": office["name"],
        "roles": [],
        "permissions": [],
    }
    return json_answer(content)


def search(call: Call) -> Answer:
    text, exact = call.request.param("query").lower(), call.request.flag("exactMatch")
    resources = call.request.param("resource", "clients,loans,savings").split(",")
    with call.bank.lock:
        return json_answer([hit for resource in resources for hit in _hits(call, resource, text, exact=exact)])


def search_clients(call: Call) -> Answer:
    payload = call.payload()
    wanted = payload.get("request")
    text = str(wanted.get("text") or "").lower() if isinstance(wanted, dict) else ""
    with call.bank.lock:
        rows = call.bank.table("clients").values()
        found = [row for row in rows if text in f"{row['displayName']} {row['externalId']}".lower()]
        return json_answer(_spring_page(found, int(payload.get("page", 0)), int(payload.get("size", 50))))


def report(call: Call) -> Answer:
    """`R_rows=100000` makes it large, `R_chunked=true` sends it without a length, `exportCSV=true` as CSV."""
    count, chunked = whole(call.request, "R_rows", 10), call.request.flag("R_chunked")
    rows = [[number, f"Row {number} of {call.name}", number * 10.0] for number in range(1, count + 1)]
    if call.request.flag("exportCSV"):
        text = "\n".join(["id,name,amount", *(",".join(map(str, row)) for row in rows)])
        named = ("Content-Disposition", f'attachment; filename="{re.sub(r"[^A-Za-z0-9 _-]", "", call.name)}.csv"')
        return Answer(200, text.encode(), "text/csv", (named,), chunked)
    columns = [{"columnName": name, "columnType": kind} for name, kind in REPORT_COLUMNS]
    answer = json_answer({"columnHeaders": columns, "data": [{"row": row} for row in rows]})
    return Answer(200, answer.body, answer.content_type, (), chunked)


def documents(call: Call) -> Answer:
    owned = {number: name for (client, number), (name, _) in call.tenant.documents.items() if client == call.ids[0]}
    return json_answer(
        [{"id": number, "parentEntityType": "clients", "fileName": name} for number, name in owned.items()]
    )


def attachment(call: Call) -> Answer:
    client, number = call.ids
    if (client, number) not in call.tenant.documents:
        raise missing("document", number)
    name, content = call.tenant.documents[client, number]
    return Answer(200, content, "application/pdf", (("Content-Disposition", f'attachment; filename="{name}"'),))


def echo(request: Request) -> Answer:
    """What arrived, as JSON; `?__status=302&__header=Location:/x` makes the answer's status and headers."""
    headers = dict(request.headers)
    if "authorization" in headers:
        headers["authorization"] = str(request.username)
    body = base64.b64encode(request.body).decode()
    asked = [header.partition(":")[::2] for header in request.query.get("__header", [])]
    extra = [
        (name.strip(), value.strip()) for name, value in asked if name.isascii() and f"{name}{value}".isprintable()
    ]
    content = {"method": request.method, "target": request.target, "headers": headers, "body": body}
    return json_answer(content, whole(request, "__status", 200)).having(*extra)


# Parts that the above share


def page(rows: list[Record], request: Request) -> Record:
    order = request.param("orderBy")
    if order:
        rows = sorted(
            rows, key=lambda row: _sortable(row.get(order)), reverse=request.param("sortOrder").upper() == "DESC"
        )
    offset, limit = max(whole(request, "offset", 0), 0), whole(request, "limit", DEFAULT_LIMIT)
    items = rows[offset : offset + limit] if limit > 0 else rows[offset:]
    return {"totalFilteredRecords": len(rows), "pageItems": [_fields(row, request) for row in items]}


def whole(request: Request, name: str, default: int) -> int:
    given = request.param(name) or str(default)
    try:
        return int(given)
    except ValueError:
        raise invalid(name, f"The parameter `{name}` is not a number.", given) from None


def _selected(rows: Iterable[Record], request: Request) -> list[Record]:
    wanted = {name: request.param(name) for name in EQUAL_FILTERS if request.param(name)}
    return [row for row in rows if all(str(row.get(name)) == value for name, value in wanted.items())]


def _sortable(value: Any) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (0.0, str(value))


def _spring_page(rows: list[Record], number: int, size: int) -> Record:
    number, size = max(number, 0), size if size > 0 else 20
    content = rows[number * size : (number + 1) * size]
    pages = -(-len(rows) // size)
    return {
        "content": content,
        "totalElements": len(rows),
        "totalPages": pages,
        "number": number,
        "size": size,
        "numberOfElements": len(content),
        "first": number == 0,
        "last": number >= pages - 1,
        "empty": not content,
    }


def _fields(record: Record, request: Request) -> Record:
    wanted = request.param("fields")
    return {name: record[name] for name in wanted.split(",") if name in record} if wanted else record


def _hits(call: Call, resource: str, text: str, *, exact: bool) -> list[Record]:
    if resource not in SEARCHED:
        return []
    table, kind = SEARCHED[resource]
    return [_hit(row, kind) for row in call.bank.table(table).values() if _found(row, text, exact=exact)]


def _found(row: Record, text: str, *, exact: bool) -> bool:
    words = [str(word).lower() for word in (_name(row), row["accountNo"], row["externalId"])]
    return text in words if exact else any(text in word for word in words)


def _hit(row: Record, kind: str) -> Record:
    return {
        "entityId": row["id"],
        "entityAccountNo": row["accountNo"],
        "entityExternalId": row["externalId"],
        "entityName": _name(row),
        "entityType": kind,
        "entityStatus": row["status"],
    }


def _name(row: Record) -> str:
    return str(row.get("displayName") or row.get("clientName"))
