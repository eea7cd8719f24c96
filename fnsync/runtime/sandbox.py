"""What confines workers on this machine. The full sandbox (Landlock, network rules) has its place here."""

from __future__ import annotations

from typing import Any


def report() -> dict[str, Any]:
    """What is in force for every worker; `fnsync doctor` tells what the kernel could do besides."""
    return {
        "no_new_privileges": True,
        "resource_limits": ["address space", "core files", "open files", "resident memory", "threads"],
        "environment": "scrubbed",
        "landlock": False,
    }
