"""Limits a worker sets on itself before it loads function code. The full sandbox has its place here."""

from __future__ import annotations

import os
import resource

from fnsync.runtime import wire
from fnsync.worker import linux

#: Descriptors a worker may have open.
OPEN_FILES = 4096
#: How readily the kernel picks a worker when memory runs out: before the server, which has 0.
OOM_SCORE = "600"


def confine(fork: wire.Fork) -> None:
    """Take away rights for good: privileges, core dumps, address space."""
    linux.no_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if fork.address_space_bytes:
        most = address_space() + fork.address_space_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(OOM_SCORE)


def address_space() -> int:
    """What this process has mapped now, in bytes."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
