"""Carries commands out, or keeps them for a checker: what Fineract's command service and its maker-checker inbox do."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from .call import USER_IDS, Call
from .errors import BadRequest, FineractError, NotAuthorized, NotFound, detail, missing, unmapped
from .idempotency import Command, Result
from .messages import Answer, Request, json_answer
from .reads import page
from .records import Ledger
from .settings import Settings
from .terms import Record

Effect: TypeAlias = Callable[..., Record]
"""Called as effect(bank, *ids, payload)."""

# A maker asks, a checker decides; all else both may do, as in many a real installation.
MAKER_MAY_NOT = ("APPROVE_LOAN", "APPROVE_SAVINGSACCOUNT")
FILTERS = ("actionName", "entityName", "resourceId", "makerId", "processingResult")


class Desk:
    """All tenants' commands go over it."""

    def __init__(self, settings: Settings, ledger: Ledger, *, pause: Callable[[float], None]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._pause = pause

    def run(self, call: Call, permission: str, effect: Effect) -> Answer:
        """Fineract's order: permission and JSON first (they burn no key), then the row, then the effect."""
        if call.user == "maker" and permission in MAKER_MAY_NOT:
            raise NotAuthorized(permission)
        action, _, entity = permission.partition("_")
        payload = call.payload()
        row = call.tenant.commands.claim(
            patience=self._settings.conflict_seconds,
            action=action,
            entity=entity,
            key=call.request.idempotency_key,
            user=call.user,
            resource_id=call.ids[0] if call.ids else None,
            payload=payload,
            body=call.request.body,
            effect=partial(effect, call.bank, *call.ids, payload),
        )
        if isinstance(row, Answer):
            return row
        return self._await_approval(call, row) if self._settings.maker_checker else self._carry_out(call, row)

    def _await_approval(self, call: Call, row: Command) -> Answer:
        with _errors_stored(call, row), call.bank.rehearsal():
            row.effect()
        call.tenant.commands.finish(row, Result.AWAITING_APPROVAL)
        return json_answer({"commandId": row.id, "rollbackTransaction": True})

    def _carry_out(self, call: Call, row: Command) -> Answer:
        self._pause(self._settings.processing_seconds)
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
            self._enter(call, row, result)
            return result

    def _enter(self, call: Call, row: Command, result: Record) -> None:
        moved = [row.payload[name] for name in ("transactionAmount", "principal") if name in row.payload]
        self._ledger.add(
            tenant=call.tenant.name,
            action=row.action,
            entity=row.entity,
            id=row.resource_id,
            resourceId=result["resourceId"],
            amount=moved[0] if moved else None,
            key=row.key,
            externalId=row.payload.get("externalId"),
            note=row.payload.get("note"),
            user=row.user,
            checker=row.checker,
            commandId=row.id,
        )

    def note(self, call: Call, **effect: Any) -> None:
        """An effect that no command row stands for."""
        self._ledger.add(tenant=call.tenant.name, user=call.user, key=None, **effect)

    # The checker's side

    def inbox(self, call: Call) -> Answer:
        waiting = (row for row in call.tenant.commands.all() if row.result is Result.AWAITING_APPROVAL)
        return json_answer(_filtered(waiting, call.request))

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
        row = call.tenant.commands.get(call.ids[0])
        if row is not None and row.result is Result.AWAITING_APPROVAL:
            _check_checker(row, call.user)
            if call.tenant.commands.take(row, checker=call.user):
                return row
        message = f"Command with id {call.ids[0]} is not awaiting approval"
        raise NotFound("error.msg.command.id.not.awaiting.approval", message, call.ids[0])

    def audit(self, call: Call) -> Answer:
        row = call.tenant.commands.get(call.ids[0])
        if row is None:
            raise missing("audit", call.ids[0])
        return json_answer(_audit(row))

    def audits(self, call: Call) -> Answer:
        rows = _filtered(call.tenant.commands.all(), call.request)
        return json_answer(page(rows, call.request) if call.request.flag("paged") else rows)


def _check_checker(row: Command, user: str) -> None:
    if row.user == user:
        message = "Can not be checked by the same user."
        raise BadRequest(detail("error.msg.command.unsupported", message, parameter="command"))
    # Fineract asks for the permission first; here it comes second, so that a maker meets both answers.
    if user != "checker":
        raise NotAuthorized(f"{row.action}_{row.entity}_CHECKER")


@contextmanager
def _errors_stored(call: Call, row: Command) -> Iterator[None]:
    """A command's error stays with its key."""
    try:
        yield
    except FineractError as error:
        call.tenant.commands.finish(row, Result.ERROR, error.answer())
        raise
    except Exception as error:
        call.tenant.commands.finish(row, Result.ERROR, unmapped(error))
        raise


def _filtered(rows: Iterable[Command], request: Request) -> list[Record]:
    wanted = {name: request.param(name).lower() for name in FILTERS if request.param(name)}

    def fits(row: Command) -> bool:
        values = (row.action, row.entity, row.resource_id, USER_IDS[row.user], int(row.result))
        has = dict(zip(FILTERS, values, strict=True))
        return all(str(has[name]).lower() == value for name, value in wanted.items())

    return [_audit(row) for row in rows if fits(row)]


def _audit(row: Command) -> Record:
    audit = {
        "id": row.id,
        "actionName": row.action,
        "entityName": row.entity,
        "resourceId": row.resource_id,
        "maker": row.user,
        "madeOnDate": row.made_at.timestamp() * 1000,
        "processingResult": row.result.title,
        "commandAsJson": json.dumps(row.payload),
    }
    if row.checker and row.checked_at:
        audit |= {"checker": row.checker, "checkedOnDate": row.checked_at.timestamp() * 1000}
    return audit
