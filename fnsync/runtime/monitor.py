"""Watches what worker processes take: resident memory and threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: How often workers that run calls are looked at, in seconds: memory can grow by about 1 GB per look.
INTERVAL_S = 0.1
#: Threads a worker may have.
MOST_THREADS = 512


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process takes now."""

    memory_bytes: int
    threads: int


def usage(pid: int) -> Usage | None:
    """Read it from /proc; None: it cannot be had now, because the process is gone or no descriptor is free."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The process's name, in brackets, may itself hold blanks and brackets.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Usage(memory_bytes=int(fields[21]) * PAGE_BYTES, threads=int(fields[17]))
