"""`python -m benchmarks`: measure, print one table, write it as JSON."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from benchmarks import chatting, completions, editing, listing, memory, report, saving, starting, syncing
from benchmarks.bench import QUICK, Bench, Sizes
from benchmarks.load import Load, LoadError
from benchmarks.report import Row
from benchmarks.servers import ServerFailed

RESULTS = Path(__file__).with_name("results.json")

MEASUREMENTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "echo": completions.echo,
    "stream": completions.stream,
    "save": saving.save,
    "start": starting.start,
    "worker": memory.worker_memory,
    "server": memory.server_memory,
    "base": completions.base,
    "filters": chatting.filters,
    "stream-filter": chatting.stream_filter,
    "streams": chatting.streams,
    "inlet": chatting.inlet,
    "nested": chatting.nested,
    "scale": completions.scale,
    "reconcile": saving.reconcile,
    "list": listing.functions,
    "edit": editing.one,
    "editors": editing.many,
    "history": editing.history,
    "push": syncing.push,
    "sync": syncing.sync,
    "mirror": syncing.mirror,
    "sources": syncing.sources_memory,
    "failing": syncing.failing,
}


def main(arguments: list[str]) -> int:
    """Return 0 also when budgets are missed: that is a result. 1: something could not be measured; 130: Ctrl-C."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    names = options.only or list(MEASUREMENTS)
    rows: list[Row] = []
    code = 0
    try:
        measure(names, QUICK if options.quick else Sizes(), rows, console)
    except (LoadError, ServerFailed) as exc:
        console.print(f"[red]not measured:[/] {exc}", highlight=False)
        code = 1
    except KeyboardInterrupt:
        console.print("interrupted")
        code = 130
    if rows:
        Console(width=None if sys.stdout.isatty() else 150).print(report.table(rows))
    if code == 0:
        report.write(rows, options.json, quick=options.quick)
        console.print(f"written to {options.json}", highlight=False)
    return code


def measure(names: list[str], sizes: Sizes, rows: list[Row], console: Console) -> None:
    """Append the rows as they are measured. Raises LoadError, ServerFailed."""
    with (
        tempfile.TemporaryDirectory(prefix="fnsync-bench-", ignore_cleanup_errors=True) as folder,
        Load() as load,
        console.status("") as status,
    ):
        bench = Bench(Path(folder), load, sizes, lambda what: status.update(escape(f"{heading} {what}")))
        for place, name in enumerate(names, 1):
            began = time.perf_counter()
            heading = f"[{place}/{len(names)} {name}]"
            rows.extend(MEASUREMENTS[name](bench))
            console.print(f"{name}: measured in {time.perf_counter() - began:.0f} s", highlight=False)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure fnsync against its budgets.")
    parser.add_argument(
        "--only", action="append", choices=list(MEASUREMENTS), metavar="NAME", help=", ".join(MEASUREMENTS)
    )
    parser.add_argument("--quick", action="store_true", help="small counts, to see that all works")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where the result is written")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
