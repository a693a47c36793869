"""Runs all traces on all contestants and prints who passes what: `make conformance`. Fails if ours fails one."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.conformance.contestants import contestants
from tests.conformance.report import failures_of_ours, results, table, write_page
from tests.conformance.trace import FILES, read
from tests.programs import RedisServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("--only", default="", help="traces whose name begins so")
    parser.add_argument("--write", action="store_true", help="write the table into docs/design/conformance.md")
    asked = parser.parse_args()
    traces = [trace for trace in map(read, FILES) if trace.name.startswith(asked.only)]
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            found = results(traces, contestants(server.url))
        finally:
            server.kill()
    print("\n".join(table(found)))
    if asked.write and not asked.only:
        write_page(found)
    if failed := failures_of_ours(found):
        sys.exit("\n".join(["", "Ours fails:", *failed]))


if __name__ == "__main__":
    main()
