"""The folders with whole commits of the local repository that plans of refs are made from: which stay, and how long."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

#: How many stay, and for how long after they were used last, in seconds.
MOST, LONGEST_S = 8, 24 * 3600.0
#: What was used within that time is never removed: a plan may be at it.
GRACE_S = 1800.0

#: A commit, or what a crash left of making one.
_OURS = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?|\.tmp-.*")


def collect(folder: Path) -> None:
    """Remove what is too old or too much. Blocking."""
    if not folder.is_dir():
        return
    now = time.time()
    found = [(path.stat().st_mtime, path) for path in folder.iterdir() if _OURS.fullmatch(path.name)]
    newest_first = [path for _, path in sorted(found, reverse=True)]
    used_at = {path: at for at, path in found}
    for place, path in enumerate(newest_first):
        age_s = now - used_at[path]
        if age_s > GRACE_S and (place >= MOST or age_s > LONGEST_S or path.name.startswith(".")):
            shutil.rmtree(path, ignore_errors=True)
