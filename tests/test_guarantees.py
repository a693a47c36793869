"""The pages that name tests name such as are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.named import is_there

HERE = Path(__file__).parent
DESIGN = HERE.parent / "docs" / "design"
PAGE = DESIGN / "guarantees.md"
METRICS = HERE.parent / "docs" / "metrics.md"


@pytest.mark.parametrize(("page", "at_least"), [(PAGE, 60), (DESIGN / "history.md", 10), (METRICS, 9)])
def test_each_test_that_a_page_names_is_there(page: Path, at_least: int) -> None:
    """`::test_x` stands for one of the file named before it."""
    missing, file, named = [], "", 0
    for path, name, parameter in re.findall(r"`([\w/.]*)::(\w+)(?:\[([^\]]+)\])?`", page.read_text("utf-8")):
        file, named = path or file, named + 1
        if not is_there(HERE / file, name, parameter):
            missing.append(f"{file}::{name}[{parameter}]")
    assert missing == []
    assert named >= at_least


def test_each_line_of_the_page_names_a_test() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ") and "| test |" not in line]
    assert [row for row in rows if "::test_" not in row] == []
    assert len(rows) >= 40
