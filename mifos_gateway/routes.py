"""Rules of the form `METHOD pattern` that say which routes are denied or allowed.

A pattern is `fnmatch` over the whole path, `*` also over `/`, case-insensitively; the path is decoded, and an
`/api/v1`, `v1` or `v2` prefix is removed from both. METHOD may be `*`. A rule for GET covers HEAD, since MIFOS runs the
same code for both.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")

# Fineract's own administration, and batches, whose items would pass every rule.
DEFAULT_DENIED = (
    "* authentication*",
    "* users*",
    "* roles*",
    "* permissions*",
    "* hooks*",
    "* batches*",
    "* jobs*",
    "* scheduler*",
    "* configurations*",
    "* externalservice*",
    "* self/*",
    "* internal*",
)

_PREFIX = re.compile(r"/?(?:(?:api/)?v[12]/)?", re.IGNORECASE)


def gettext_noop(message: str) -> str:
    """Django's by its name, for `makemessages`: gunicorn's master reads rules and does without Django."""
    return message


_NO_METHOD = gettext_noop("%(rule)s does not begin with a method: write '* users*' or 'GET clients/*'")
_NO_PATTERN = gettext_noop("%(rule)s has no path pattern: write '* users*' or 'GET clients/*'")
_QUERY = gettext_noop("%(rule)s holds a query; a pattern is a path alone: write 'POST loans/*'")


class RouteError(ValueError):
    """A rule that cannot be read; the message says what a rule looks like."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message % {"rule": repr(rule)})
        self.message, self.rule = message, rule


@dataclass(frozen=True, slots=True)
class Rule:
    method: str
    pattern: str

    @classmethod
    def parse(cls, text: str) -> "Rule":
        method, _, pattern = text.strip().partition(" ")
        method, pattern = method.upper(), pattern.strip()
        if method not in METHODS and method != "*":
            raise RouteError(_NO_METHOD, text)
        pattern = pattern[_PREFIX.match(pattern).end() :] if pattern else ""  # type: ignore[union-attr]
        if not pattern.strip("/"):
            raise RouteError(_NO_PATTERN, text)
        if "?" in pattern and "=" in pattern:
            raise RouteError(_QUERY, text)
        return cls(method, pattern.strip("/").lower())

    def __str__(self) -> str:
        return f"{self.method} {self.pattern}"

    def covers(self, method: str) -> bool:
        return self.method in ("*", method) or (self.method == "GET" and method == "HEAD")


class Rules:
    """A set of rules, compiled to one expression per method, since every call asks."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.rules = tuple(Rule.parse(text) for text in texts)
        self._by_method = {method: self._compile(method) for method in METHODS}

    def __bool__(self) -> bool:
        return bool(self.rules)

    def match(self, method: str, path: str) -> bool:
        """Whether any rule covers this call; `path` is `Target.path`."""
        expression = self._by_method.get(method)
        return expression is not None and expression.match(path.lower()) is not None

    def _compile(self, method: str) -> re.Pattern[str] | None:
        patterns = [translate(rule.pattern) for rule in self.rules if rule.covers(method)]
        return re.compile("|".join(patterns)) if patterns else None
