"""docs/design/guarantees.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.named import is_there

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "design" / "guarantees.md"


def test_each_test_that_the_page_names_is_there() -> None:
    """`::test_x` stands for one of the file named before it."""
    missing, file, named = [], "", 0
    for path, name, parameter in re.findall(r"`([\w/.]*)::(\w+)(?:\[([^\]]+)\])?`", PAGE.read_text("utf-8")):
        file, named = path or file, named + 1
        if not is_there(HERE / file, name, parameter):
            missing.append(f"{file}::{name}[{parameter}]")
    assert missing == []
    assert named >= 60


def test_each_line_of_the_page_names_a_test() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ") and "| test |" not in line]
    assert [row for row in rows if "::test_" not in row] == []
    assert len(rows) >= 40
