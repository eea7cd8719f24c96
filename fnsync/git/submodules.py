"""Submodules: where they come from, and which of these addresses a source may name."""

from __future__ import annotations

import os
from pathlib import Path

from fnsync.errors import SourceRefused
from fnsync.git import addresses, command
from fnsync.git.blobs import Blobs, Provide, sizes
from fnsync.git.remote import redacted
from fnsync.model import CommitId

#: How deep submodules may lie in submodules, and how many there may be in one commit.
MOST_LEVELS = 3
MOST = 50
_FILE = ".gitmodules"
_MOST_BYTES = 256 * 1024
#: What one address may name; another scheme than these runs programs, or reads what is on this machine.
_ALWAYS = frozenset({"https", "ssh", "git"})


def addresses_at(repository: Path, commit: CommitId, provide: Provide) -> dict[str, str]:
    """Path -> URL of the submodules that a commit says where to get. Raises SourceRefused, RepositoryError."""
    _, output = command.run(repository, "ls-tree", "-z", "--full-tree", commit, "--", _FILE)
    about = output.partition(b"\t")[0].decode().split()
    if about[1:2] != ["blob"]:
        return {}
    sizes(repository, [about[2]], provide)
    with Blobs(repository) as blobs:
        content = blobs.read(about[2], _MOST_BYTES)
    if content is None:
        raise SourceRefused(f"{_FILE} in {commit[:12]} has more than {_MOST_BYTES:,} bytes")
    done = command.attempt(repository, "config", "--file", "-", "--no-includes", "--null", "--list", stdin=content)
    if done.code:
        raise SourceRefused(f"{_FILE} in {commit[:12]} cannot be read: {done.said}")
    found: dict[str, dict[str, str]] = {}
    for entry in os.fsdecode(done.output).split("\0"):
        key, _, value = entry.partition("\n")
        name, _, what = key.removeprefix("submodule.").rpartition(".")
        if key.startswith("submodule.") and what in ("path", "url"):
            found.setdefault(name, {})[what] = value
    return {one["path"].strip("/"): one["url"] for one in found.values() if "path" in one and "url" in one}


def resolved(url: str, source: str) -> str:
    """The address of a submodule of a source, from the root if it was relative. Raises SourceRefused."""
    if url.startswith(("./", "../")):
        url = _relative(url, source)
    shown = redacted(url, url)
    if url.startswith("-") or not url.isprintable():
        raise SourceRefused(f"{shown!r} is no address of a submodule")
    # `name::address` is for programs that git would start.
    scheme, own = "" if "::" in url.partition("/")[0] else addresses.parse(url).scheme, addresses.parse(source).scheme
    if scheme not in _ALWAYS and scheme != own:
        raise SourceRefused(
            f"the submodule {shown} may not be fetched: expected https, ssh or git, or {own}, as its source",
            hint="set the source's submodules to false, or have the submodule's URL changed",
        )
    return url


def _relative(url: str, source: str) -> str:
    base = source.rstrip("/")
    start = base.find("://") + 3 if "://" in base else 0
    while True:
        if url.startswith("./"):
            url = url[2:].lstrip("/")
        elif url.startswith("../"):
            url = url[3:].lstrip("/")
            cut = max(base.rfind("/"), base.rfind(":") if "://" not in base else -1)
            if cut < start or (cut == start and not base.startswith("/")):
                raise SourceRefused(f"a submodule's relative URL leads out of {redacted(source, source)}")
            base = base[: cut + 1] if base[cut] == ":" else base[:cut]
        else:
            return base + url if base.endswith((":", "/")) else f"{base}/{url}"
