"""`Prefer: respond-async, wait=0` of RFC 7240."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')  # a comma within quotes parts nothing


@dataclass(frozen=True, slots=True)
class Preference:
    """`asked`: the caller takes a 202. `at_once`: it wants no other (wait=0)."""

    asked: bool = False
    at_once: bool = False

    @classmethod
    def parse(cls, header: str) -> Preference:
        """Of several values for one preference the first holds; what is not understood is left out (section 2)."""
        found: dict[str, str] = {}
        for part in _PART.findall(header):
            name, _, value = part.partition(";")[0].partition("=")
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
        asked = "respond-async" in found
        return cls(asked, asked and found.get("wait") == "0")

    def __str__(self) -> str:
        """As `Preference-Applied` says it."""
        return "respond-async, wait=0" if self.at_once else "respond-async" if self.asked else ""


NONE = Preference()
