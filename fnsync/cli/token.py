"""`fnsync token`: who may call. Works on the state itself; a running server notices within moments."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fnsync.cli.options import ConfigFile, Json, load_config
from fnsync.cli.output import console, print_json, printable
from fnsync.cli.statefile import has_state, open_state, state_file
from fnsync.errors import Invalid, NotFound

if TYPE_CHECKING:
    from fnsync.model import User
    from fnsync.store.state import State, Token

app = typer.Typer(help="Make, list and revoke access tokens.", no_args_is_help=True)

#: As in `fnsync.model`, whose import would be half of the time that `--help` takes.
Ceiling = Literal["user", "admin"]
TokenId = Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `token list` shows it.")]


@app.command("create")
def create(
    label: Annotated[str, typer.Argument(metavar="[LABEL]", help="What it is for, for the list.")] = "",
    user: Annotated[
        str,
        typer.Option("--user", metavar="EMAIL", help="Whose token it is; made if unknown. [default: the admin]"),
    ] = "",
    admin: Annotated[bool, typer.Option("--admin", help="A user made by this command is an admin.")] = False,
    service: Annotated[
        bool, typer.Option("--service", help="For a chat server, which says for which of its users it calls.")
    ] = False,
    ceiling: Annotated[
        Ceiling | None, typer.Option("--ceiling", help="The most that those may. [default: user]", show_default=False)
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make a token and print it: this once, since only its hash is kept."""
    if ceiling is not None and not service:
        raise Invalid("--ceiling is for service tokens", hint="add --service")
    if service:
        ceiling = ceiling or "user"
    with open_state(load_config(config)) as state:
        owner = _owner(state, user.strip(), admin=admin)
        made, text = state.add_token(owner.id, label, ceiling=ceiling)
    if json:
        print_json({**_shown(made, owner), "token": text})
        return
    # Only the token goes to stdout, so that TOKEN=$(fnsync token create) works.
    kind = f"service token {made.id} with the ceiling {ceiling}" if ceiling else f"token {made.id}"
    console(stderr=True).print(f"{kind} of {printable(owner.email)}; it is not shown again", style="dim")
    typer.echo(text)


@app.command("list")
def list_tokens(config: ConfigFile = None, json: Json = False) -> None:
    """List the tokens; their texts are not kept."""
    settings = load_config(config)
    owners: dict[str, User] = {}
    tokens: list[Token] = []
    if has_state(settings):
        with open_state(settings) as state:
            owners = {user.id: user for user in state.users()}
            tokens = state.tokens()
    if json:
        print_json([_shown(token, owners.get(token.user_id)) for token in tokens])
        return
    out = console()
    if not tokens:
        out.print("no tokens yet; make one with: fnsync token create")
        return
    from rich.table import Table  # start time

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("id", "label", "user", "role", "ceiling", "created", "last used"):
        table.add_column(heading)
    for token in tokens:
        owner = owners.get(token.user_id)
        table.add_row(
            token.id,
            printable(token.label),
            printable(owner.email if owner else token.user_id),
            owner.role if owner else "?",
            token.ceiling or "",
            _day(token.created_at),
            _day(token.last_used_at) if token.last_used_at else "never",
        )
    out.print(table)


@app.command("revoke")
def revoke(id: TokenId, config: ConfigFile = None) -> None:
    """Revoke a token: calls with it are refused from now on."""
    # The whole text is taken too, for a token that turned up somewhere it should not be.
    token_id = id.split("_")[1] if id.startswith("fns_") and id.count("_") >= 2 else id
    settings = load_config(config)
    revoked = False
    if state_file(settings).exists():
        with open_state(settings) as state:
            revoked = state.revoke(token_id)
    if not revoked:
        raise NotFound(f"there is no token {token_id}", hint="`fnsync token list` shows their ids")
    console(stderr=True).print(f"token {token_id} is revoked", style="dim")


def _owner(state: State, email: str, *, admin: bool) -> User:
    """The user with that e-mail address, made if there is none; the built-in admin for an empty one."""
    builtin = state.ensure_admin()
    if not email:
        return builtin
    known = state.user_by_email(email)
    if known and admin and not known.is_admin:
        raise Invalid(f"{email} is a user without the admin role", hint="leave out --admin")
    if known:
        return known
    if "@" not in email:
        raise Invalid(f"{email} is no e-mail address and no known user")
    return state.add_user(email=email, role="admin" if admin else "user")


def _shown(token: Token, owner: User | None) -> dict[str, Any]:
    fields = dataclasses.asdict(token)
    del fields["digest"]
    return {**fields, "user": owner.email if owner else None, "role": owner.role if owner else None}


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
