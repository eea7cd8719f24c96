"""`fnsync user`: who there is. Works on the state itself; a running server notices within moments."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fnsync.cli.options import ConfigFile, Json, load_config
from fnsync.cli.output import console, print_json, printable
from fnsync.cli.statefile import has_state, open_state, state_file
from fnsync.errors import Invalid, NotFound

if TYPE_CHECKING:
    from fnsync.config import Config
    from fnsync.model import User
    from fnsync.store.state import Account, State

app = typer.Typer(help="Add, list and remove users.", no_args_is_help=True)

#: As in `fnsync.model`, which typer would need at its own import.
Role = Literal["admin", "user", "pending"]
RoleOption = Annotated[Role, typer.Option("--role", help="What they may.")]
Who = Annotated[
    str, typer.Argument(metavar="USER", help="The user's e-mail address, or the id that `user list` shows.")
]


@app.command("add")
def add(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="[default: that of the address]")] = "",
    role: RoleOption = "user",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Add a user. They call with a token: see fnsync token create."""
    with open_state(load_config(config)) as state:
        added = state.add_user(name=name, email=email, role=role)
        account = state.account(added.id)
    if json and account is not None:
        print_json(_shown(account))
        return
    console(stderr=True).print(f"{printable(added.email)} is added as {_as(role)}", style="dim")


@app.command("list")
def list_users(config: ConfigFile = None, json: Json = False) -> None:
    """List the users: those added here, and those whom chat servers named."""
    settings = load_config(config)
    accounts: list[Account] = []
    if has_state(settings):
        with open_state(settings) as state:
            accounts = state.accounts()
    if json:
        print_json([_shown(account) for account in accounts])
        return
    from rich.table import Table  # start time

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("id", "e-mail", "name", "role", "from", "since"):
        table.add_column(heading)
    for account in accounts:
        user = account.user
        table.add_row(
            printable(user.id),
            printable(user.email),
            printable(user.name),
            user.role,
            "here" if account.origin == "local" else "a chat server",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(account.created_at)),
        )
    if accounts:
        console().print(table)


@app.command("set-role")
def set_role(
    user: Who,
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="admin, user or pending.")],
    config: ConfigFile = None,
) -> None:
    """Give a user another role; for one who is pending, nothing works."""
    settings = load_config(config)
    with _existing(settings, user) as state:
        before = _found(state, user)
        changed = state.set_role(before.id, role)
        admins = _admins(state)
    console(stderr=True).print(f"{printable(changed.email)} is {_as(role)} now", style="dim")
    if before.is_admin and not admins:
        _tell_who_is_left(settings)


@app.command("remove")
def remove(user: Who, config: ConfigFile = None) -> None:
    """Remove a user with their tokens, user valves, and what functions keep for them."""
    from fnsync.store.filing import filing_of  # start time

    settings = load_config(config)
    with _existing(settings, user) as state:
        removed = state.remove_user(_found(state, user).id)
        filing = filing_of(settings.data)
        filing.forget(removed.id)
        filing.close()
        admins = _admins(state)
    console(stderr=True).print(f"{printable(removed.email or removed.id)} is removed", style="dim")
    if removed.is_admin and not admins:
        _tell_who_is_left(settings)


def _existing(config: Config, user: str) -> AbstractContextManager[State]:
    """The state that the user is looked for in. Raises NotFound where there is none."""
    if not state_file(config).exists():
        raise _unknown(user)
    return open_state(config)


def _unknown(user: str) -> NotFound:
    return NotFound(f"there is no user {user}", hint="`fnsync user list` shows them")


def _found(state: State, text: str) -> User:
    """The user with that id or address. Raises NotFound, and Invalid when several of chat servers have the address."""
    found = state.user(text) or state.user_by_email(text)
    if found is not None:
        return found
    named = [user for user in state.users() if user.email and user.email == text.strip().lower()]
    if len(named) > 1:
        raise Invalid(f"{len(named)} users of chat servers have the address {text}", hint="give the id of one")
    if not named:
        raise _unknown(text)
    return named[0]


def _admins(state: State) -> list[User]:
    """The local admins besides the built-in one."""
    from fnsync.store.state import ADMIN  # start time

    local = (account.user for account in state.accounts() if account.origin == "local")
    return [user for user in local if user.is_admin and user.id != ADMIN.id]


def _tell_who_is_left(config: Config) -> None:
    """Say how one gets in when the last admin whom somebody added is gone."""
    from fnsync.admin import FILE, VARIABLE  # start time

    where = f"{VARIABLE}, or in {printable(str(config.data / FILE))}"
    console(stderr=True).print(f"the built-in admin is the only one left; its token is that of {where}", style="yellow")


def _shown(account: Account) -> dict[str, Any]:
    user = account.user
    fields = {"id": user.id, "name": user.name, "email": user.email, "role": user.role}
    return {**fields, "origin": account.origin, "created_at": account.created_at}


def _as(role: Role) -> str:
    return {"admin": "an admin", "user": "a user", "pending": "pending"}[role]
