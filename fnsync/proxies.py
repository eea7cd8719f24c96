"""The proxy that the environment names for an address: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."""

from __future__ import annotations

from urllib.parse import SplitResult
from urllib.request import getproxies, proxy_bypass


def proxy_of(address: SplitResult) -> str | None:
    """The proxy's address; None: there is none."""
    host = address.netloc.rpartition("@")[2]
    return None if proxy_bypass(host) else getproxies().get(address.scheme)
