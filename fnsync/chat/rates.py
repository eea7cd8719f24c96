"""Rate limits: what a user may call in how much time, and how often a function may be called.

    turn.quota = rates.of_caller(caller)                        as soon as it is known who calls
    turn.quota = rates.of_function(function, caller, quota)     before the function is called

Both raise RateLimited. What they return is told to the client: how the limit stands that has least left.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fnsync.config import RateLimits
from fnsync.errors import RateLimited
from fnsync.model import LiveFunction, Quota, Rate, User
from fnsync.units import format_duration

if TYPE_CHECKING:
    from fnsync.chat.windows import Windows


class Rates:
    """Counts calls. One per server."""

    def __init__(self, limits: RateLimits) -> None:
        self._admin, self._user = limits.admin, limits.user
        self._users = limits.users
        self._windows: Windows | None = None

    def of_caller(self, caller: User) -> Quota | None:
        """Count one call of the caller. None: they have no limit."""
        rate = self._admin if caller.is_admin else self._user
        if self._users:
            rate = self._users.get(caller.email.lower(), rate)
        return None if rate is None else self._take("user", caller.id, rate, caller.email or caller.name)

    def of_function(self, function: LiveFunction, caller: User, before: Quota | None = None) -> Quota | None:
        """Count one call of the function. `before`: how it stands with the caller's own limit.

        A call of a preview counts as one of the live function too, whose limits hold for whatever answers for it.
        """
        quota = before
        if function.preview is not None and function.preview.live is not None:
            quota = self.of_function(function.preview.live, caller, quota)
        limits, name = function.limits, function.runs_as
        if limits.user_rate is not None:
            who = f"{caller.email or caller.name}, of {name},"
            quota = _least(quota, self._take(f"user of {name}", caller.id, limits.user_rate, who))
        if limits.rate is not None:
            quota = _least(quota, self._take("function", name, limits.rate, name))
        return quota

    def _take(self, kind: str, id: str, rate: Rate, who: str) -> Quota:
        if self._windows is None:
            from fnsync.chat.windows import Windows  # start time, for servers without limits

            self._windows = Windows()
        quota = self._windows.take(f"{kind}\n{id}", rate)
        if not quota.taken:
            raise RateLimited(
                f"{who} has {rate.count} calls in {format_duration(rate.period_s)}, and has had them",
                retry_after_s=max(0.0, quota.reset_at - time.time()),
                quota=quota,
            )
        return quota


def _least(one: Quota | None, other: Quota) -> Quota:
    return other if one is None or other.remaining < one.remaining else one
