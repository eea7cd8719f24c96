"""Lists of models: single pipes, manifolds that are slow, wrong or broken, and who sees what."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest

from fnsync.chat.access import may_use
from fnsync.chat.completions import Completions
from fnsync.chat.filters import Filters
from fnsync.chat.models import Models
from fnsync.chat.rates import Rates
from fnsync.chat.turns import Calls
from fnsync.chat.unfiltered import Unfiltered
from fnsync.chat.upstreams import Upstreams
from fnsync.config import RateLimits
from fnsync.model import Access, Frontmatter, FunctionId, Kind, Limits, LiveFunction, Manifest, Revision, Settings, User
from fnsync.registry import World
from fnsync.runtime.executor import Executor
from fnsync.uservalves import UserValves
from tests.conftest import Server, wait_for

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def listed(client: httpx.Client, prefix: str, path: str = "/v1/models") -> dict[str, Any]:
    """Return the listed models whose id begins with `prefix`, by id."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return {model["id"]: model for model in answer.json()["data"] if model["id"].startswith(prefix)}


def ask(client: httpx.Client, model: str) -> httpx.Response:
    return client.post(CHAT, json={"model": model, "messages": HELLO})


def test_a_pipe_is_one_model_with_the_recorded_keys(server: Server, client: httpx.Client, fn: str) -> None:
    text = '"""\ntitle: Says hello\n"""\nclass Pipe:\n    class UserValves: pass\n    def pipe(self, body): return ""\n'
    status = server.add(fn, text)

    openai = {
        "id": fn,
        "name": "Says hello",
        "object": "model",
        "created": status["updated_at"],
        "owned_by": "openai",
    }
    assert listed(client, fn, "/api/models") == {
        fn: {
            **openai,
            "pipe": {"type": "pipe"},
            "has_user_valves": False,
            "actions": [],
            "filters": [],
            "tags": [],
        }
    }
    assert listed(client, fn, "/api/models") == listed(client, fn, "/api/v1/models")
    # With `pipe`, an Open WebUI that is connected here would look for the function in itself.
    assert listed(client, fn, "/v1/models") == {fn: openai}
    assert client.get(f"/v1/models/{fn}").json() == openai


def test_the_openai_list_says_that_it_is_one(client: httpx.Client) -> None:
    assert client.get("/v1/models").json()["object"] == "list"
    assert set(client.get("/api/models").json()) == {"data"}


@pytest.mark.parametrize(
    "pipes",
    [
        "pipes = [{'id': 'a', 'name': 'A'}, {'id': 'b.c', 'name': 'B'}]",
        "def pipes(self): return [{'id': 'a', 'name': 'A'}, {'id': 'b.c', 'name': 'B'}]",
        "async def pipes(self): return [{'id': 'a', 'name': 'A'}, {'id': 'b.c', 'name': 'B'}]",
        "def pipes(self): yield from ({'id': 'a', 'name': 'A'}, {'id': 'b.c', 'name': 'B'})",
        "async def pipes(self):\n        yield {'id': 'a', 'name': 'A'}\n        yield {'id': 'b.c', 'name': 'B'}",
    ],
    ids=["list", "method", "coroutine", "generator", "async generator"],
)
def test_a_manifold_lists_what_its_pipes_gives(server: Server, client: httpx.Client, fn: str, pipes: str) -> None:
    server.add(fn, f"class Pipe:\n    name = 'N/'\n    {pipes}\n    def pipe(self, body): return body['model']\n")

    found = listed(client, fn)

    assert {id: model["name"] for id, model in found.items()} == {f"{fn}.a": "N/A", f"{fn}.b.c": "N/B"}
    assert ask(client, f"{fn}.b.c").json()["choices"][0]["message"]["content"] == f"{fn}.b.c"
    assert ask(client, fn).status_code == 404, "the manifold itself is no model"
    assert ask(client, f"{fn}.c").status_code == 404


def test_a_bad_entry_loses_itself_only(server: Server, client: httpx.Client, fn: str) -> None:
    entries = (
        "[{'id': 'a', 'name': 'A'}, {'name': 'x'}, {'id': 'y'}, 7, {'id': 'a', 'name': 'B'}, {'id': 'z', 'name': 'Z'}]"
    )
    server.add(fn, f"class Pipe:\n    pipes = {entries}\n    def pipe(self, body): return ''\n")

    assert {id: model["name"] for id, model in listed(client, fn).items()} == {f"{fn}.a": "A", f"{fn}.z": "Z"}
    assert "model_left_out" in server.log()


@pytest.mark.parametrize("result", ["None", "'text'", "{'id': 'a'}"])
def test_a_manifold_that_gives_no_list_has_no_models(
    server: Server, client: httpx.Client, fn: str, result: str
) -> None:
    server.add(fn, f"class Pipe:\n    def pipes(self): return {result}\n    def pipe(self, body): return ''\n")

    assert listed(client, fn) == {}
    assert ask(client, f"{fn}.a").status_code == 404


def test_a_manifold_that_raises_says_so_to_who_calls_it(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn, "class Pipe:\n    def pipes(self): raise OSError('upstream is down')\n    def pipe(self, body): return ''\n"
    )

    assert listed(client, fn) == {}
    answer = ask(client, f"{fn}.a")
    assert answer.status_code == 500, "whether the model exists is not known"
    assert answer.json()["error"]["message"] == "OSError: upstream is down"


def test_what_was_listed_stays_when_a_later_listing_fails(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        class Pipe:
            listed = False

            def pipes(self):
                if self.listed:
                    raise OSError("upstream is down")
                self.listed = True
                return [{"id": "a", "name": "A"}]

            def pipe(self, body):
                return "fine"
        """,
    )
    assert set(listed(client, fn)) == {f"{fn}.a"}

    # An unknown sub-model makes the server look again, and fail.
    wait_for("another listing", lambda: ask(client, f"{fn}.b").status_code == 500)

    assert set(listed(client, fn)) == {f"{fn}.a"}
    assert ask(client, f"{fn}.a").status_code == 200


def test_a_slow_manifold_delays_the_first_list_by_two_seconds_at_most(
    server: Server, client: httpx.Client, fn: str
) -> None:
    server.add(
        fn,
        """
        import asyncio

        class Pipe:
            async def pipes(self):
                await asyncio.sleep(3)
                return [{"id": "a", "name": "A"}]

            async def pipe(self, body):
                return ""
        """,
    )

    began = time.monotonic()
    assert listed(client, fn) == {}
    assert 1.5 < time.monotonic() - began < 2.9
    wait_for("the slow models", lambda: listed(client, fn))


def test_changed_valves_list_anew(server: Server, client: httpx.Client, fn: str) -> None:
    text = """
        from pydantic import BaseModel

        class Pipe:
            class Valves(BaseModel):
                names: list[str] = ["one"]

            def __init__(self):
                self.valves = self.Valves()

            def pipes(self):
                return [{"id": name, "name": name.title()} for name in self.valves.names]

            def pipe(self, body):
                return ""
    """
    server.add(fn, text)
    assert set(listed(client, fn)) == {f"{fn}.one"}

    server.project.write(f"{fn}.yaml", "valves: {names: [two, three]}")

    wait_for("the new names", lambda: set(listed(client, fn)) == {f"{fn}.two", f"{fn}.three"})
    assert ask(client, f"{fn}.one").status_code == 404


def test_a_listing_may_be_called_before_it_was_ever_listed(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, "class Pipe:\n    pipes = [{'id': 'a', 'name': 'A'}]\n    def pipe(self, body): return 'fine'\n")

    assert ask(client, f"{fn}.a").status_code == 200


def test_actions_and_toggle_filters_show_on_the_models_they_are_attached_to(
    server: Server, client: httpx.Client, fn: str
) -> None:
    pipe, other, action, filter = f"{fn}_pipe", f"{fn}_other", f"{fn}_act", f"{fn}_fil"
    for id in (pipe, other):
        server.add(id, "class Pipe:\n    def pipe(self, body): return ''\n")
    front = '"""\ntitle: {}\nicon_url: data:,x\ndescription: d\n"""\n'
    text = front.format("Act") + "class Action:\n    def action(self, body): pass\n"
    server.add(action, text, f'models: ["{fn}_p*"]')
    text = front.format("Fil") + "class Filter:\n    toggle = True\n    def inlet(self, body): pass\n"
    server.add(filter, text, f"models: [{pipe}]")

    models = listed(client, fn, "/api/models")

    item = {"description": "d", "icon": "data:,x"}
    assert models[pipe]["actions"] == [{"id": action, "name": "Act", **item}]
    assert models[pipe]["filters"] == [{"id": filter, "name": "Fil", "has_user_valves": False, **item}]
    assert (models[other]["actions"], models[other]["filters"]) == ([], [])


# ---- access ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "allowed"),
    [
        (None, True),
        (Access(), False),
        (Access(roles=("user",)), True),
        (Access(roles=("admin",)), False),
        (Access(users=("ADA@example.org",)), True),
        (Access(users=("bob@example.org",)), False),
    ],
)
def test_access_names_addresses_and_roles(access: Access | None, allowed: bool) -> None:
    settings = Settings(access=access)

    assert may_use(settings, User("1", "Ada", "ada@example.org", "user")) is allowed
    assert may_use(settings, User("2", "Root", "root@example.org", "admin"))


def test_what_is_somebodys_own_is_for_nobody_else_until_it_is_global() -> None:
    ada, bob = User("1", "Ada", "ada@example.org", "user"), User("2", "Bob", "bob@example.org", "user")
    admin = User("3", "Root", "root@example.org", "admin")
    own = Settings(owner="1", access=Access(roles=("user",)))

    assert [may_use(own, user) for user in (ada, bob, admin)] == [True, False, True]
    assert may_use(replace(own, is_global=True), bob)


def test_a_model_is_not_there_for_who_may_not_use_it(
    server: Server, client: httpx.Client, user_client: httpx.Client, fn: str
) -> None:
    text = "class Pipe:\n    def pipe(self, body): return 'fine'\n"
    server.add(fn, text, "access: {roles: [admin]}")

    assert set(listed(client, fn)) == {fn}
    assert listed(user_client, fn) == {}
    assert user_client.get(f"/v1/models/{fn}").status_code == 404
    assert ask(client, fn).status_code == 200
    refused, unknown = ask(user_client, fn), ask(user_client, "x" * len(fn))
    assert refused.status_code == unknown.status_code == 404
    assert refused.json()["error"]["message"].replace(fn, "x" * len(fn)) == unknown.json()["error"]["message"]

    server.project.write(f"{fn}.yaml", "access: {users: [user@example.org]}")
    wait_for("access", lambda: ask(user_client, fn).status_code == 200)


# ---- what is kept ----------------------------------------------------------------------------------------


def live(id: str, *, manifold: bool = False) -> LiveFunction:
    return LiveFunction(
        id=FunctionId(id),
        name=id,
        kind=Kind.PIPE,
        revision=Revision("0" * 64),
        path=f"{id}.py",
        entry="function/main.py",
        manifest=Manifest(Kind.PIPE, manifold=manifold),
        frontmatter=Frontmatter(),
        settings=Settings(),
        limits=Limits(),
        active=True,
        environment="base",
        updated_at=0,
        shown={},
    )


def test_nothing_is_kept_of_functions_that_are_gone() -> None:
    executor = cast(Executor, None)  # nothing is called
    models = Models(executor, Upstreams((), {}))
    calls, unfiltered = Calls(executor, cast(UserValves, None)), Unfiltered()
    rates = Rates(RateLimits())
    completions = Completions(calls, models, Upstreams((), {}), rates, Filters({}), unfiltered)
    world = World()
    for number in range(20):
        pipe, manifold = live(f"pipe_{number}"), live(f"manifold_{number}", manifold=True)
        world = world.changed({pipe.id: pipe, manifold.id: manifold}, frozenset(world.functions))
        completions.keep(world)
        calls.plan(pipe)
        unfiltered.note(pipe.id, pipe.revision, "it failed")
        models.described(world, pipe, None)
        models.described(world, manifold, "sub")

    completions.keep(world)

    assert list(calls._plans) == ["pipe_19"]
    noted = [n for n in range(20) if unfiltered.of(FunctionId(f"pipe_{n}"), "0" * 64)]
    assert noted == [19]
    assert list(models._manifolds._known) == ["manifold_19"]


def test_sub_models_that_nobody_lists_any_more_are_not_kept() -> None:
    models = Models(cast(Executor, None), Upstreams((), {}))
    manifold = live("manifold", manifold=True)
    world = World().changed({manifold.id: manifold})

    for number in range(50):
        names = {f"sub{number}": f"Sub {number}"}
        assert models._of(world).sub(manifold, f"sub{number}", names)["name"] == f"Sub {number}"
        assert models._of(world).sub(manifold, "unlisted", names)["name"] == "unlisted"

    assert list(models._of(world)._subs["manifold"][1]) == ["sub49"]
