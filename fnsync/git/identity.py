"""Which repository an address means, however it is written.

The forms for ssh, https and git's own protocol are the same repository; so are those with and without a user, a port
or `.git`. Two repositories of one host are taken for the same only where their names differ in case alone, which no
code host allows, or where they are served at two ports.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

#: Longer ones are no addresses.
MOST_CHARACTERS = 2048
#: Where ssh is served under another name, for networks that let only HTTPS through.
_SAME_HOSTS = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}
#: `host:path` and `user@host:path`, as ssh takes them; also `[host:port]:path`.
_SCP = re.compile(r"(?:[^/@\s]+@)?(\[[^\]/]+\]|[^/:@\s\[\]]+):(?!//)(.*)", re.DOTALL)


def identity(address: str) -> str | None:
    """What is the same for all addresses of a repository: `host/path`, or a path of this machine; None: no address."""
    address = address.strip()
    if not address or len(address) > MOST_CHARACTERS:
        return None
    if "://" in address:
        return _of_url(address)
    match = _SCP.fullmatch(address)
    if match is not None and not address.startswith(("/", ".")):
        host = match[1]
        if host.startswith("["):  # a port, or an address of IPv6
            host = host[1:-1] if host.count(":") > 1 else host[1:-1].partition(":")[0]
        return _remote(host, match[2])
    return _local(address)


def _of_url(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return None
    if parts.scheme.lower() == "file":
        return _local(unquote(parts.path))
    return _remote(host, unquote(parts.path))


def _remote(host: str, path: str) -> str | None:
    host = host.lower().rstrip(".")
    name = _path(path).strip("/").casefold()
    return f"{_SAME_HOSTS.get(host, host)}/{name}" if host and name else None


def _local(path: str) -> str | None:
    """Names of files may differ in case alone."""
    return _path(path) if path.startswith("/") and path.strip("/") else None


def _path(path: str) -> str:
    plain = posixpath.normpath("/" + path.strip().strip("/"))
    return plain[: -len(".git")] if plain.endswith(".git") and not plain.endswith("/.git") else plain
