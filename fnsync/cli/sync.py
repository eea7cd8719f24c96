"""`fnsync sync`: has the running server pull now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fnsync.cli.client import connected
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json, printable

ROUTE = "/api/sync"


def sync(config: ConfigFile = None, url: Url = None, token: TokenText = None, json: Json = False) -> None:
    """Have the server pull the branch that it follows, and print what came."""
    with connected(load_config(config), url, token) as client:
        found = client.post(ROUTE, None).json()
    if json:
        print_json(found)
        return
    out = console()
    for line in lines(found):
        out.print(printable(line))


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What came, as text: a line that says so, and one for each commit."""
    there = f"{found['remote']}/{found['branch']} at {found['url']}"
    count, here = found["count"], found["commit"][:8]
    if not count:
        ahead = f", {found['ahead']} not pushed" if found["ahead"] else ""
        yield f"nothing new in {there}; here is {here}{ahead}"
        return
    yield f"{count} commit{'' if count == 1 else 's'} came from {there}: {found['before'][:8]} to {here}"
    for commit in found["commits"]:
        yield f"  {commit['commit'][:8]} {commit['subject']} ({commit['author']})"
    if count > len(found["commits"]):
        yield f"  and {count - len(found['commits'])} older ones"
