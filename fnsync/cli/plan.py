"""`fnsync plan`: what a sync, a pull or a merge would do, function by function."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli import exits
from fnsync.cli.nearby import server_or_none
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json
from fnsync.errors import FnsyncError, RepositoryError

if TYPE_CHECKING:
    from fnsync.cli.client import Client
    from fnsync.config import Config
    from fnsync.syncplan import SyncPlan

ROUTE = "/api/plan"

Of = Annotated[
    str | None,
    typer.Argument(
        metavar="[SOURCE|REF]",
        help="A source, or a branch, tag, commit or pr/N. [default: the next pull]",
        show_default=False,
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")]
NoLoad = Annotated[bool, typer.Option("--no-load", help="Only read; nothing of what comes is executed.")]


def plan(
    of: Of = None,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
    markdown: Markdown = False,
    no_load: NoLoad = False,
) -> None:
    """Tell what would change if a source were synced, or a ref merged; fails when something would not go live."""
    if json and markdown:
        raise typer.BadParameter("--json and --markdown: expected one of them")
    configuration = load_config(config)
    with server_or_none(configuration, url, token) as client, _waiting(of):
        found = _through(client, configuration, of, no_load) if client is not None else _here(configuration, of)
    if json:
        print_json(found.to_dict())
    elif markdown:
        from fnsync.plantext import to_markdown  # start time

        typer.echo(to_markdown(found), nl=False)
    else:
        show(found)
    if found.is_wrong:
        raise typer.Exit(exits.WOULD_FAIL)


def _waiting(of: str | None) -> AbstractContextManager[Any]:
    """Something that moves, on a terminal: many functions take a while to load."""
    out = console(stderr=True)
    return out.status(f"looking at what {of or 'a pull'} would do") if out.is_terminal else nullcontext()


# ---- the work --------------------------------------------------------------------------------------------------


def _through(client: Client, config: Config, of: str | None, no_load: bool) -> SyncPlan:
    """Have the running server make it."""
    asked: Mapping[str, str] = {} if of is None else {"source" if of in _sources(config) else "ref": of}
    return _asked(client, {**asked, "load": not no_load})


def of_source(client: Client, name: str) -> SyncPlan:
    """What a sync of a source, or of `repository`, would do. Raises FnsyncError."""
    return _asked(client, {"source": name, "load": True})


def _asked(client: Client, asked: Mapping[str, Any]) -> SyncPlan:
    import msgspec  # start time

    from fnsync.syncplan import SyncPlan

    told = client.get(ROUTE, **asked)
    try:
        return msgspec.convert(told, SyncPlan)
    except msgspec.ValidationError as exc:
        raise FnsyncError(f"the server does not tell a plan as this fnsync knows it: {exc}") from exc


def _sources(config: Config) -> set[str]:
    from fnsync.model import REPOSITORY  # start time

    return {REPOSITORY, *(source.name for source in config.sources)}


def _here(config: Config, of: str | None) -> SyncPlan:
    """Make it in this process, by reading alone."""
    from fnsync.git.worktree import WorkTree  # start time
    from fnsync.model import REPOSITORY
    from fnsync.plan import Known, Policy
    from fnsync.planning import Rules, draft
    from fnsync.plans import ref_candidate
    from fnsync.source.catalog import Catalog
    from fnsync.syncplan import SyncPlan, sorted_changes

    if of is not None and of != REPOSITORY and of in _sources(config):
        raise exits.NoServer(f"no server is running on {config.data}, and only it can fetch {of}", hint="fnsync serve")
    if not any((folder / ".git").exists() for folder in (config.functions, *config.functions.parents)):
        raise RepositoryError(f"{config.functions} lies in no git repository, so there is nothing to compare with")
    worktree = WorkTree.ensure(config.functions, config.root)
    repository = config.repository
    notes = ["no server runs here: what is there was read, and nothing was loaded"]
    if of is None or of == REPOSITORY:
        of = f"refs/remotes/{repository.remote}/{repository.branch or worktree.branch()}"
        notes.append("nothing was fetched")
    catalog = Catalog(config.functions)
    catalog.refresh(None)
    known = Known(tuple(catalog.units.values()))
    policy = Policy(config.limits, config.defaults.active, config.policy.imports.deny)
    with tempfile.TemporaryDirectory(prefix="fnsync-plan-") as folder:
        found = ref_candidate(worktree, of, repository.remote, Path(folder))
        drafts, refused = draft(found.tree, found.changed, known, policy, Rules())
    changes = sorted_changes(one.change for one in drafts)
    tree = found.tree
    return SyncPlan(tree.source, found.ref, found.before, tree.commit, changes, refused, notes=(*found.notes, *notes))


# ---- what is shown ---------------------------------------------------------------------------------------------


def show(plan: SyncPlan) -> None:
    """Print the plan, in colours where there are some."""
    from fnsync.plantext import lines  # start time

    out = console()
    for line, style in lines(plan):
        out.print(line, style=_STYLES.get(style))


_STYLES = {
    "head": "bold",
    "added": "green",
    "changed": "yellow",
    "removed": "red",
    "conflict": "red",
    "error": "red",
    "hint": "dim",
    "warning": "yellow",
    "detail": "dim",
}
