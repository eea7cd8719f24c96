"""What a git address says: how the other side is spoken to, and where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

#: `user@host:path`, as ssh has it. A slash before the colon makes it a path.
_SCP = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>\[[^\]/]+\]|[^/:\[]+):(?!:).+", re.DOTALL)
_HOST = re.compile(r"[\w.-]+|[0-9a-fA-F:.]+(%[\w]+)?")
_SSH = ("ssh", "git+ssh", "ssh+git")


@dataclass(frozen=True, slots=True)
class Address:
    """A git address, taken apart."""

    #: https, http, ssh, git, file, or whatever else the URL begins with.
    scheme: str
    #: Without brackets; empty for a file.
    host: str = ""
    port: int | None = None
    user: str | None = None
    #: `host:port` as the address has them.
    netloc: str = ""

    @property
    def http(self) -> bool:
        """Whether it is spoken to over HTTP, encrypted or not."""
        return self.scheme in ("https", "http")

    @property
    def origin(self) -> str:
        """Of HTTP: what tells one server from another, as it stands in the address."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def private(self) -> bool:
        """Whether nobody on the way can read what is sent."""
        return self.scheme in ("https", "ssh") or (self.scheme == "http" and is_loopback(self.host))


def parse(url: str) -> Address:
    """Take a URL apart, in any form that git takes. A path, and what cannot be understood, is a file."""
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, port, scheme = parts.hostname or "", parts.port, parts.scheme.lower()
        except ValueError:
            return Address("file")
        if not _HOST.fullmatch(host):
            return Address("file")
        scheme = "ssh" if scheme in _SSH else scheme
        user = unquote(parts.username) if parts.username else None
        return Address(scheme, host, port, user, parts.netloc.rpartition("@")[2])
    if match := _SCP.fullmatch(url):
        return Address("ssh", match["host"].strip("[]"), None, match["user"], match["host"])
    return Address("file")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and can be no other."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
