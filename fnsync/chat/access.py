"""What a user may call."""

from __future__ import annotations

from fnsync.model import Access, Settings, User


def may_use(settings: Settings, user: User) -> bool:
    """Whether the user may call a function with these settings.

    Admins always may. What is somebody's own is for nobody else, unless it is global. Of the rest, everyone may
    where `access` is not set, else those that it names.
    """
    if user.is_admin or settings.owner == user.id:
        return True
    if settings.owner is not None and not settings.is_global:
        return False
    return is_named(settings.access, user)


def is_named(access: Access | None, user: User) -> bool:
    """Whether `access` lets the user in; admins always are."""
    if access is None or user.is_admin or user.role in access.roles:
        return True
    return user.email.lower() in {email.lower() for email in access.users}
