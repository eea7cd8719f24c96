"""What a user may call."""

from __future__ import annotations

from fnsync.model import Settings, User


def may_use(settings: Settings, user: User) -> bool:
    """Whether `settings.access` names the user; admins always may, everyone may when it is not set."""
    access = settings.access
    if access is None or user.is_admin:
        return True
    return user.role in access.roles or user.email.lower() in {email.lower() for email in access.users}
