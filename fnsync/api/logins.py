"""Failed logins, counted by the client's address: whoever guesses tokens has to wait.

The address is the connection's. What a proxy says of its clients is not believed, so those behind one share their
failures; but a token that was accepted from an address before goes on working there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from fnsync.model import Rate

#: Addresses with failures that are kept; the one that failed longest ago goes first.
MANY_ADDRESSES = 10_000
#: Accepted logins that are kept; the oldest goes first.
MANY_LOGINS = 10_000
#: What one subscriber of IPv6 has at the least.
IPV6_PREFIX_BITS = 64


class Logins:
    """Counts failures, evenly spread: after `rate.count` of them each next one has to wait for its turn."""

    def __init__(self, rate: Rate | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: None: failures are not counted."""
        self._clock = clock
        self._rate = rate
        self._step_s = rate.period_s / rate.count if rate else 0.0
        #: Address -> when all its failures would be over, had they come evenly.
        self._over_at: dict[str, float] = {}
        #: Address and SHA-256 of a token; a dict, since it keeps their order.
        self._accepted: dict[tuple[str, bytes], None] = {}

    def wait_s(self, address: str) -> float:
        """How long an unknown token of that address has to wait; 0: not at all."""
        if not self._over_at or self._rate is None:
            return 0.0
        over_at = self._over_at.get(_network(address))
        if over_at is None:
            return 0.0
        # Times are rounded, so a last failure could seem not to fit by less than nothing.
        wait_s = over_at + self._step_s - self._clock() - self._rate.period_s
        return wait_s if wait_s > 1e-9 else 0.0

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        if self._rate is None:
            return
        network = _network(address)
        now = self._clock()
        # Taken out first, so that it goes to the end.
        self._over_at[network] = max(now, self._over_at.pop(network, now)) + self._step_s
        if len(self._over_at) > MANY_ADDRESSES:
            del self._over_at[next(iter(self._over_at))]

    def accepted(self, address: str, digest: bytes) -> None:
        """Note that the token with that SHA-256 was right."""
        login = (address, digest)
        if login not in self._accepted:
            self._accepted[login] = None
            if len(self._accepted) > MANY_LOGINS:
                del self._accepted[next(iter(self._accepted))]

    def knows(self, address: str, digest: bytes) -> bool:
        """Whether the token with that SHA-256 was right before."""
        return (address, digest) in self._accepted


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    """What counts as one address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(int(parsed) >> (128 - IPV6_PREFIX_BITS))
