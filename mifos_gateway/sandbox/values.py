"""Checks what comes in by the control endpoints; a complaint names the field, the value and what is allowed."""

from collections.abc import Collection, Mapping
from typing import Any

LONGEST_WAIT = 86_400.0


class BadValue(ValueError):
    """Answered as 400."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


def known(content: Any, names: Collection[str]) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise BadValue("body", f"must be a JSON object, not {content!r}")
    for name in content:
        if name not in names:
            raise BadValue(str(name), f"is unknown; allowed are {', '.join(names)}")
    return content


def boolean(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValue(field, f"must be true or false, not {value!r}")
    return value


def number(field: str, value: Any, *, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadValue(field, f"must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def whole(field: str, value: Any, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadValue(field, f"must be a whole number from {low} to {high}, not {value!r}")
    return value


def seconds(field: str, value: Any) -> float:
    return number(field, value, low=0, high=LONGEST_WAIT)


def choice(field: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadValue(field, f"must be one of {', '.join(allowed)}, not {value!r}")
    return value


def strings(field: str, value: Any) -> tuple[str, ...]:
    """One string or a list of them."""
    many = [value] if isinstance(value, str) else value
    if not isinstance(many, list | tuple) or not all(isinstance(one, str) and one for one in many):
        raise BadValue(field, f"must be a string or a list of strings, not {value!r}")
    return tuple(many)
