"""Mutation testing of breaker/engine with mutmut: `make mutants`, or `make mutants ARGS="machine --seconds 110"`.

Breaks the engine in one place at a time and runs the quick tests that reach that place; a mutant that none of them
notices survives. What is done is kept in mutants/ and not done again unless the function has changed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import signal
import tempfile
import zlib
from pathlib import Path
from typing import Any

import libcst
import psutil
from mutmut import __main__ as mutmut
from mutmut.mutation import file_mutation
from mutmut.stats import status_by_exit_code

KILLED = ("killed", "timeout", "segfault", "caught by type check")

Mutants = list[tuple[Any, str, int | None]]


def mutate_decorated_functions() -> None:
    """mutmut passes over every function with a decorator: the engine's properties, context managers and all of the
    Redis store. Here such a function is mutated beneath its decorators, which stand over mutmut's switch."""
    skips = file_mutation.MutationVisitor._skip_node_and_children
    arrange = file_mutation.function_trampoline_arrangement

    def skips_bare(self: Any, node: libcst.CSTNode) -> bool:
        return skips(self, node.with_changes(decorators=()) if isinstance(node, libcst.FunctionDef) else node)

    def arrange_bare(function: libcst.FunctionDef, mutants: Any, class_name: str | None) -> Any:
        names = [d.decorator.value for d in function.decorators if isinstance(d.decorator, libcst.Name)]
        if not function.decorators or names in (["staticmethod"], ["classmethod"]):
            return arrange(function, mutants, class_name)
        before, (switch, *others), *rest = arrange(function.with_changes(decorators=()), mutants, class_name)
        switch = switch.with_changes(decorators=[*function.decorators, *switch.decorators])
        return before, [switch, *others], *rest

    file_mutation.MutationVisitor._skip_node_and_children = skips_bare
    file_mutation.function_trampoline_arrangement = arrange_bare


def choose(modules: list[str], *, again: bool, sample: int) -> None:
    """Have mutmut try the mutants of these modules alone, `sample` in a hundred and always the same; `again` also
    those that survived before."""
    collect = mutmut.collect_source_file_mutation_data

    def chosen(*, mutant_names: Any) -> Any:
        found, by_path = collect(mutant_names=mutant_names)
        mutants: Mutants = []
        for data, name, result in found:
            if (modules and module_of(name) not in modules) or zlib.crc32(name.encode()) % 100 >= sample:
                continue
            tried = result is not None and not (again and status_by_exit_code[result] not in KILLED)
            mutants.append((data, name, result if tried else None))
        return mutants, by_path

    mutmut.collect_source_file_mutation_data = chosen


def module_of(mutant: str) -> str:
    """breaker.engine.stores.redis.x__text__mutmut_1 is stores.redis's."""
    return mutant.removeprefix("breaker.engine.").rpartition(".")[0]


def report() -> None:
    mutants, _ = mutmut.collect_source_file_mutation_data(mutant_names=())
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    left = []
    for _, name, result in sorted(mutants, key=lambda mutant: mutant[1]):
        status = status_by_exit_code[result]
        status = "killed" if status in KILLED else "survived" if status == "suspicious" else status
        counts[module_of(name)][status] += 1
        if status not in ("killed", "not checked"):
            left.append(f"{status:<10} {name}")
    print(*left, sep="\n")
    print(f"\n{'module':<16}{'mutants':>8}{'killed':>8}{'survived':>9}{'no tests':>9}{'untried':>8}   rate")
    for module, one in [*counts.items(), ("all", sum(counts.values(), collections.Counter()))]:
        tried = one.total() - one["not checked"]
        columns = f"{one.total():>8}{one['killed']:>8}{one['survived']:>9}{one['no tests']:>9}{one['not checked']:>8}"
        print(f"{module:<16}{columns}{100 * one['killed'] / max(tried, 1):>6.1f}%")


def end_servers(folder: str) -> None:
    """A mutant that hangs is killed with its tests, and leaves their Redis behind."""
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as machine or stores.redis; all of the engine otherwise")
    parser.add_argument("--seconds", type=int, default=0, help="stop after so long; the next run goes on from there")
    parser.add_argument("--sample", type=int, default=100, help="try so many in a hundred, always the same")
    parser.add_argument("--again", action="store_true", help="try again what survived")
    parser.add_argument("--report", action="store_true", help="only say what is known")
    parser.add_argument("--children", type=int, default=None, help="mutants tried at once (a core each)")
    options = parser.parse_args()
    mutate_decorated_functions()
    choose(options.modules, again=options.again, sample=options.sample)
    if options.report:
        return report()
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=Path.cwd() / "var") as folder:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.alarm(options.seconds)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                mutmut._run((), options.children)
        finally:
            signal.alarm(0)
            end_servers(folder)
    return report()


if __name__ == "__main__":
    main()
