"""What a user may call."""

from __future__ import annotations

from fnsync.model import Settings, User


def may_use(settings: Settings, user: User) -> bool:
    """Whether the user may call a function with these settings.

    Admins always may. What is somebody's own is for nobody else, unless it is global. Of the rest, everyone may
    where `access` is not set, else those that it names.
    """
    access = settings.access
    if user.is_admin or settings.owner == user.id:
        return True
    if settings.owner is not None and not settings.is_global:
        return False
    if access is None:
        return True
    return user.role in access.roles or user.email.lower() in {email.lower() for email in access.users}
