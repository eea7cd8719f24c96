"""What Linux tells of processes: memory, processor time, who belongs to whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes. `pss`: shared pages count in equal parts for all who share them; `private`: its own alone (USS)."""

    pss: int
    private: int
    rss: int


def memory(pid: int) -> Memory:
    values: dict[str, int] = {}
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return Memory(values["Pss"], values["Private_Clean"] + values["Private_Dirty"], values["Rss"])


def cpu_s(pid: int) -> float:
    """Processor time of all threads that live now, in seconds; finer than the clock ticks of `stat`."""
    total = 0
    for task in (PROC / str(pid) / "task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that ended meanwhile
    return total / 1e9


def descendants(pid: int, name: str) -> list[int]:
    """The processes below `pid` whose name is `name`."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            before, _, after = text.rpartition(") ")
            names[int(entry.name)] = before.partition(" (")[2]
            children.setdefault(int(after.split()[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        waiting += below
        found += [child for child in below if names[child] == name]
    return found
