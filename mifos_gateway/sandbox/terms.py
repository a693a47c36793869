"""The bank's terms: what a status may become, how amounts and dates are read, and how their errors read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from .errors import BadRequest, DataIntegrity, DomainRule, detail, invalid, required

Record: TypeAlias = dict[str, Any]
Payload: TypeAlias = Mapping[str, Any]

BUSINESS_DATE = date(2024, 10, 24)  # the sandbox's bank lives on one day, so that its answers are the same in every run
DATE_FORMATS = ("%d %B %Y", "%d %b %Y", "%Y-%m-%d", "%d/%m/%Y")
CENT = Decimal("0.01")
CURRENCY = {"code": "USD", "name": "US Dollar", "decimalPlaces": 2, "displaySymbol": "$", "nameCode": "currency.USD"}


@dataclass(frozen=True)
class Lifecycle:
    """What may become of a resource: `decisions` maps a command to (status before, status after, its date)."""

    kind: str
    family: str
    names: Mapping[int, str]
    decisions: Mapping[str, tuple[int, int, str]]

    def status(self, identifier: int) -> Record:
        value = self.names[identifier]
        code = value.lower().replace("(", "").replace(")", "").replace(" ", ".")
        return {"id": identifier, "code": f"{self.family}.{code}", "value": value}

    def decide(self, record: Record, command: str, payload: Payload) -> None:
        before, after, dated = self.decisions[command]
        if record["status"]["id"] != before:
            state = self.names[before]
            code = f"error.msg.{self.kind}.{command.lower()}.account.is.not.{state.split()[0].lower()}"
            raise DomainRule(
                code, f"{self.kind.capitalize()} {record['id']} is not in the state `{state}`.", record["id"]
            )
        record["timeline"][dated] = day(payload, dated)
        record["status"] = self.status(after)


def change(record: Record, payload: Payload, allowed: tuple[str, ...]) -> Record:
    """Applies what differs, and returns it as Fineract's `changes`."""
    unknown = [name for name in payload if name not in (*allowed, "locale", "dateFormat")]
    if unknown:
        problem = "The parameter is not supported."
        raise BadRequest(*(detail("error.msg.parameter.unsupported", problem, parameter=name) for name in unknown))
    changes = {name: payload[name] for name in allowed if name in payload and payload[name] != record.get(name)}
    record.update(changes)
    return changes


def with_external_id(record: Record, result: Record) -> Record:
    return result | ({"resourceExternalId": record["externalId"]} if record.get("externalId") else {})


def duplicate(kind: str, parameter: str, value: Any) -> DataIntegrity:
    message = f"{kind.capitalize()} with {parameter} `{value}` already exists"
    return DataIntegrity(f"error.msg.{kind}.duplicate.{parameter}", message, parameter=parameter, value=value)


def amount(payload: Payload, name: str) -> Decimal:
    if payload.get(name) in (None, ""):
        raise required(name)
    try:
        value = Decimal(str(payload[name]).replace(",", ""))
    except InvalidOperation:
        raise invalid(name, f"The parameter `{name}` is not a number.", payload[name]) from None
    if not value.is_finite() or value <= 0:
        message = f"The parameter `{name}` must be greater than 0."
        raise invalid(name, message, payload[name], rule="not.greater.than.zero")
    return value


def day(payload: Payload, name: str) -> list[int]:
    """Fineract's `[year, month, day]`; the common formats are read whatever `dateFormat` says."""
    given = payload.get(name)
    if given is None:
        return [BUSINESS_DATE.year, BUSINESS_DATE.month, BUSINESS_DATE.day]
    for pattern in DATE_FORMATS:
        try:
            found = datetime.strptime(str(given), pattern)
        except ValueError:
            continue
        return [found.year, found.month, found.day]
    raise invalid(name, f"The parameter `{name}` is invalid based on the dateFormat.", given, rule="invalid.date")
