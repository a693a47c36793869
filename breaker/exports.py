"""Rows as CSV or JSON, sent while they are read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from django.http import StreamingHttpResponse

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
Row = Mapping[str, Any]


def answer(rows: Iterable[Row], *, file: str, form: str, columns: Iterable[str]) -> StreamingHttpResponse:
    """A file of that name to save. `form`: csv or json."""
    rest = iter(rows)
    first = list(islice(rest, 1))  # a database that is away shall say so before the answer has begun
    every = chain(first, rest)
    body = _csv(every, list(columns)) if form == "csv" else _json(every)
    return StreamingHttpResponse(
        body,
        content_type=FORMATS[form],
        headers={"Content-Disposition": f'attachment; filename="{file}.{form}"', "Cache-Control": "no-store"},
    )


class _Echo:
    """A file that answers what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterable[Row], columns: list[str]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([cell(row.get(column)) for column in columns])


def _json(rows: Iterable[Row]) -> Iterator[str]:
    yield "["
    before = "\n"
    for row in rows:
        yield before + json.dumps(row)
        before = ",\n"
    yield "\n]\n"


def cell(value: Any) -> Any:
    """A value as a spreadsheet may open it: a text that it would take for a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if isinstance(value, Mapping | list):
        return json.dumps(value) if value else ""
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value
