"""Who passes what, as a table: for the terminal, and for docs/design/conformance.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.conformance.contestants import OURS
from tests.conformance.runner import FAILS, NOT_APPLICABLE, PASS, Contestant, Verdict, run
from tests.conformance.trace import Trace

PAGE = Path(__file__).parents[2] / "docs" / "design" / "conformance.md"
BEGIN, END = "<!-- written by `make conformance ARGS=--write` -->\n", "<!-- end -->"

Results = Mapping[tuple[str, str], Verdict]
"""(trace, contestant) to what came of it."""


def results(traces: Iterable[Trace], contestants: Sequence[Contestant]) -> Results:
    return {(trace.name, one.name): run(trace, one) for trace in traces for one in contestants}


def failures_of_ours(found: Results) -> list[str]:
    return [f"{trace}, {who}: {one.why}" for (trace, who), one in found.items() if who in OURS and one.kind == FAILS]


def _notes(found: Results) -> dict[Verdict, int]:
    """Each reason once, numbered as it comes."""
    reasons = dict.fromkeys(one for one in found.values() if one.kind == NOT_APPLICABLE)
    reasons |= dict.fromkeys(one for one in found.values() if one.kind == FAILS)
    return {reason: number for number, reason in enumerate(reasons, 1)}


def _rows(found: Results) -> list[list[str]]:
    names = list(dict.fromkeys(who for _, who in found))
    notes = _notes(found)

    def cell(one: Verdict) -> str:
        return PASS if one.kind == PASS else f"{one.kind} {notes[one]}"

    traces = dict.fromkeys(trace for trace, _ in found)
    return [["trace", *names], *([trace, *(cell(found[trace, who]) for who in names)] for trace in traces)]


def _sums(found: Results) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for (_, who), one in found.items():
        kinds.setdefault(who, []).append(one.kind)
    return [
        "in all",
        *(", ".join(f"{given.count(k)} {k}" for k in (PASS, FAILS, NOT_APPLICABLE)) for given in kinds.values()),
    ]


def table(found: Results) -> list[str]:
    rows = [*_rows(found), _sums(found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [*lines, "", *(f"{number:3} {reason.kind:5}  {reason.why}" for reason, number in _notes(found).items())]


def markdown(found: Results) -> str:
    head, *rows = _rows(found)
    lines = [head, ["---"] * len(head), *([f"`{name}`", *cells] for name, *cells in rows), _sums(found)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    notes = _notes(found)
    for kind, title in ((NOT_APPLICABLE, "Not applicable, because:"), (FAILS, "Fails, with the first difference:")):
        text += f"\n{title}\n\n" + "".join(f"{n}. {one.why}\n" for one, n in notes.items() if one.kind == kind)
    return text


def on_page() -> str:
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def write_page(found: Results) -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(found)}\n{END}{rest.partition(END)[2]}", "utf-8")
