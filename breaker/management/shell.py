"""What the operators' commands share: who calls them, and how they print."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from typing import Any


def who() -> str:
    """The user of this machine who calls."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run under numbers that nobody has named
        return f"uid {os.getuid()}"


def table(out: Any, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        out.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_to_nobody() -> None:
    """After a BrokenPipeError, for what is still buffered as Python ends: it would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
