"""What functions get from `open_webui` here: asked for over HTTP, by different users of one server."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from fnsync.store.filing import Filing
from tests import upstream as stub
from tests.conftest import Project, Server, wait_for
from tests.upstream import KEY, Upstream

CHAT = "/v1/chat/completions"

#: A pipe whose message names the method that answers; the answer is JSON.
PROBE = """
import asyncio, inspect, json, threading
{head}

class Pipe:
    async def pipe(self, body, __user__=None, __request__=None, __metadata__=None):
        method = getattr(self, body["messages"][-1]["content"].split()[0])
        self.asked = body["messages"][-1]["content"].split()[1:]
        try:
            found = await method(__request__, __user__, *body["messages"][-1]["content"].split()[1:])
        except Exception as exc:
            found = {{"error": type(exc).__name__, "said": str(getattr(exc, "detail", "") or exc)}}
        return {{"found": found}}
{methods}
"""


def probe(head: str, methods: str) -> str:
    return PROBE.format(head=textwrap.dedent(head), methods=textwrap.indent(textwrap.dedent(methods), "    "))


FILES: dict[str, str] = {
    "people": probe(
        """
        import copy, pickle
        from open_webui.models.chats import Chats
        from open_webui.models.config import Config
        from open_webui.models.users import Users, User, UserModel
        from open_webui.models.functions import Functions
        from open_webui.models.models import Models
        class safe(str):
            def __str__(self):
                return self
        """,
        """
        async def awaited(self, request, user, id):
            found = await Users.get_user_by_id(id)
            return None if found is None else [type(found).__name__, found.id, found.name, found.email, found.role]

        async def plain(self, request, user, id):
            found = Users.get_user_by_id(id)
            if found is None:
                return None
            again = await found
            kinds = [isinstance(found, UserModel), isinstance(found, User), inspect.isawaitable(again)]
            return [*kinds, found.email, again.email]

        async def helper(self, request, user, id):
            async def maybe(value):
                while inspect.isawaitable(value):
                    value = await value
                return value
            found = await maybe(Users.get_user_by_id(id))
            return None if found is None else found.role

        async def elsewhere(self, request, user, id):
            def there():
                one = asyncio.run(Users.get_user_by_id(id)).email
                other = Users.get_user_by_id(id).email
                return [one, other]
            many = await asyncio.gather(Users.get_user_by_id(id), Users.get_first_user())
            task = await asyncio.create_task(Users.get_user_by_id(id))
            in_thread = await asyncio.to_thread(Users.get_user_by_id, id)
            return [await asyncio.to_thread(there), [one.id for one in many], task.id, in_thread.id]

        async def fields(self, request, user):
            made = UserModel(**user)
            dumped = Users.get_user_by_id(user["id"]).model_dump()
            return [sorted(set(UserModel.model_fields) - set(dumped)), User(**user).email == dumped["email"], made.role]

        async def like_plain_ones(self, request, user):
            one, other = Users.get_user_by_id(user["id"]), await Users.get_user_by_id(user["id"])
            same = [one == other, other == one, one == Users.get_user_by_id(user["id"]), one != UserModel(id="x")]
            return [*same, pickle.loads(pickle.dumps(one)) == other, copy.deepcopy(one) == other]

        async def as_data(self, request, user):
            truths = [Chats.is_chat_owner("none", user["id"]), Users.get_valid_user_ids([user["id"]]) == [user["id"]]]
            number, text = Config.get("x", 7), Config.get("x", "text")
            return [*truths, number, text, Config.get("x", {"a": 1.5}), [safe("marked")]]

        async def by_email(self, request, user, email):
            found = await Users.get_user_by_email(email)
            return None if found is None else found.id

        async def functions(self, request, user, id):
            found = await Functions.get_function_by_id(id)
            valves = await Functions.get_function_valves_by_id(id)
            listed = [one.id for one in await Functions.get_functions()]
            shown = None if found is None else [found.id, found.type, bool(found.content), found.is_active]
            return [shown, valves, id in listed]

        async def models(self, request, user, id):
            found = Models.get_model_by_id(id)
            state = request.app.state
            entry = getattr(state, "MODELS", {}).get(id)
            shown = found and [found.id, found.name, found.base_model_id]
            return [shown, entry and entry["name"], hasattr(state, "config")]

        async def state(self, request, user, value):
            state = request.app.state
            before = [getattr(state, "mine", None), state._state.get("other"), state._state.get("nothing", 7)]
            state.mine = state._state["other"] = value
            return [before, state.mine, "words" in state._state["MODELS"], sorted(vars(request.state)["_state"])]

        async def kept(self, request, user):
            self.requests = [*getattr(self, "requests", []), request]
            return [sorted(set(one.app.state.MODELS) & {"admins_only"}) for one in self.requests]

        async def nothing(self, request, user):
            return await Users.delete_user_by_id("x")
        """,
    ),
    "asking": probe(
        """
        from open_webui.utils.chat import generate_chat_completion
        from open_webui.main import generate_chat_completions, chat_completion
        from open_webui.models.users import Users
        from starlette.responses import JSONResponse
        """,
        """
        async def plain(self, request, user, model, text="hello"):
            form = {"model": model, "messages": [{"role": "user", "content": text.replace("_", " ")}]}
            found = await generate_chat_completion(request, form, Users.get_user_by_id(user["id"]))
            if isinstance(found, JSONResponse):
                return [found.status_code, json.loads(found.body)]
            return [type(found).__name__, found["choices"][0]["message"]["content"], form["model"]]

        async def full(self, request, user, model):
            form = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
            found = await generate_chat_completions(request, form, user)
            return found["choices"][0]["message"]["content"]

        async def stream(self, request, user, model):
            form = {"model": model, "messages": [{"role": "user", "content": "a b"}], "stream": True}
            found = await generate_chat_completion(request, form, Users.get_user_by_id(user["id"]))
            chunks = [chunk async for chunk in found.body_iterator]
            types = sorted({type(chunk).__name__ for chunk in chunks})
            return [found.media_type, types, [chunk if isinstance(chunk, str) else chunk.decode() for chunk in chunks]]

        async def leave(self, request, user, model):
            form = {"model": model, "messages": [{"role": "user", "content": "!hold"}], "stream": True}
            found = await generate_chat_completion(request, form, user)
            async for chunk in found.body_iterator:
                break
            await found.body_iterator.aclose()
            return "left"

        async def unread(self, request, user, model):
            form = {"model": model, "messages": [{"role": "user", "content": "!hold"}], "stream": True}
            await generate_chat_completion(request, form, user)
            return "not read"

        async def twice(self, request, user):
            form = {"model": "words", "messages": [{"role": "user", "content": "about"}]}
            first = await generate_chat_completion(request, form, None)
            own = Users.get_user_by_email(user["email"])
            second = await asyncio.to_thread(lambda: asyncio.run(generate_chat_completion(request, form, None)))
            told = [one["choices"][0]["message"]["content"].split()[0] for one in (first, second)]
            return [*told, own.email, user["email"]]

        async def metadata(self, request, user):
            request.state.metadata |= {"extra": "own", "tools": {"x": {"callable": print}}}
            form = {"model": "words", "messages": [{"role": "user", "content": "about"}]}
            one = await generate_chat_completion(request, form, user)
            two = await generate_chat_completion(request, {**form, "metadata": {"extra": "given"}}, user)
            return [found["choices"][0]["message"]["content"].split()[-1] for found in (one, two)]

        async def around(self, request, user):
            async def ask(model, text):
                form = {"model": model, "messages": [{"role": "user", "content": text}]}
                found = await generate_chat_completion(request, form, user)
                return found["choices"][0]["message"]["content"]
            return [await ask("versioned", "hi"), await ask("base-model", "!silent"), await ask("versioned", "hi")]

        async def other(self, request, user, model):
            form = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
            return await generate_chat_completion(request, form, {"id": "somebody else"})

        async def thread(self, request, user, model):
            form = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
            run = lambda: asyncio.run(generate_chat_completion(request, form, None))
            found = await asyncio.to_thread(run)
            return found["choices"][0]["message"]["content"]
        """,
    ),
    "keeping": probe(
        """
        import io, os
        from pathlib import Path
        from types import SimpleNamespace
        from open_webui.config import UPLOAD_DIR
        from open_webui.models.chats import Chats, ChatForm
        from open_webui.models.files import FileForm, Files
        from open_webui.models.folders import Folders, FolderForm, FolderUpdateForm
        from open_webui.models.skills import SkillForm, Skills
        from open_webui.routers.files import upload_file_handler
        from open_webui.storage.provider import Storage
        """,
        """
        async def upload(self, request, user, name, text, process="no"):
            file = SimpleNamespace(file=io.BytesIO(text.encode()), filename=name, content_type="text/plain")
            given = {"request": request, "file": file, "metadata": {}, "process": process == "yes", "user": user}
            made = await upload_file_handler(**given)
            id = made["id"] if isinstance(made, dict) else made.id
            return [id, str(request.app.url_path_for("get_file_content_by_id", id=id))]

        async def stored(self, request, user, name, text):
            data, path = Storage.upload_file(io.BytesIO(text.encode()), name, {})
            form = FileForm(id=name, filename=name, path=path, meta={"content_type": "text/html"})
            made = await Files.insert_new_file(user["id"], form)
            return [data.decode(), made.id, made.user_id == user["id"], Path(Storage.get_file(path)).read_text()]

        async def written(self, request, user, name, text):
            UPLOAD_DIR.joinpath(name).write_text(text)
            form = FileForm(id=name, filename=name, path=str(UPLOAD_DIR / name))
            return (await Files.insert_new_file(user["id"], form)).id

        async def read(self, request, user, id):
            found = await Files.get_file_by_id(id)
            if found is None:
                return None
            about = await Files.get_file_metadata_by_id(id)
            path = Path(found.path)
            return [path.read_text(), found.filename, found.meta, about.hash, path.is_absolute()]

        async def copies(self, request, user, id):
            found = await Files.get_file_by_id(id)
            before, self.last = getattr(self, "last", None), found.path
            return [before and os.path.exists(before), os.path.exists(found.path), len(os.listdir(UPLOAD_DIR))]

        async def remembered(self, request, user, id):
            path = self.last if id == "path" else None
            return Path(Storage.get_file(path)).read_text()

        async def outside(self, request, user, path):
            form = FileForm(id="outside", filename="x", path=path)
            made = await Files.insert_new_file(user["id"], form)
            return [made.path, Storage.get_file(path)]

        async def forget(self, request, user, id):
            return [await Files.delete_file_by_id(id), await Files.get_file_by_id(id)]

        async def empty(self, request, user):
            return Storage.upload_file(io.BytesIO(b""), "x", {})

        async def large(self, request, user):
            return Storage.upload_file(io.BytesIO(b"x" * 40_000_000), "x", {})

        async def chat(self, request, user, id):
            await Chats.upsert_message_to_chat_by_id_and_message_id(id, "m1", {"role": "user", "content": "one"})
            await Chats.upsert_message_to_chat_by_id_and_message_id(id, "m2", {"parentId": "m1", "content": "two"})
            files = await Chats.add_message_files_by_id_and_message_id(id, "m1", [{"id": "f"}])
            more = Chats.add_message_files_by_id_and_message_id(id, "m1", [{"id": "g"}])
            found = Chats.get_chat_by_id_and_user_id(id, user["id"])
            message = await Chats.get_message_by_id_and_message_id(id, "m1")
            return [files, more, found.title, found.chat["history"], message["content"]]

        async def chats(self, request, user, id):
            found = await Chats.get_chat_by_id(id)
            mine = await Chats.get_chats_by_user_id(user["id"])
            return [found and found.id, await Chats.get_messages_map_by_chat_id(id), len(mine)]

        async def together(self, request, user, id):
            async def add(number):
                await Chats.add_message_files_by_id_and_message_id(id, "m", [{"id": number}])
            await asyncio.gather(*(add(number) for number in range(24)))
            message = await Chats.get_message_by_id_and_message_id(id, "m")
            return sorted(file["id"] for file in message["files"])

        async def chat_files(self, request, user, id, file):
            made = await Chats.insert_chat_files(id, "m1", [file, "no such file"], user["id"])
            again = await Chats.insert_chat_files(id, "m1", [file], user["id"])
            return [[one.file_id for one in made], again]

        async def odd(self, request, user):
            from fnsync.worker import host
            async def said(name, **value):
                try:
                    return (await host.current().ask_async(name, value)).value
                except host.Refused as exc:
                    return exc.code
            await said("keep", kind="chat", id="even", value={})
            listed = [await said("all_kept", kind="chat", skip=skip, limit=3) for skip in (-5, 2**62, 2**63)]
            kept = [await said("keep", kind="chat", id="odd", value=one) for one in (7, [], None)]
            return [*map(bool, listed), *kept]

        async def folders(self, request, user):
            made = await Folders.insert_new_folder(user["id"], FolderForm(name="one"))
            form = FolderUpdateForm(data={"x": 1})
            found = await Folders.update_folder_by_id_and_user_id(made.id, user["id"], form)
            await Skills.insert_new_skill(user["id"], SkillForm(id="s", name="skill", content="text"))
            skills = await Skills.get_skills_by_user_id(user["id"])
            return [found.name, found.data, [skill.content for skill in skills]]
        """,
    ),
    "words": """
        class Pipe:
            async def pipe(self, body, __metadata__, __chat_id__, __user__):
                if body["messages"][-1]["content"] == "about":
                    yield f'{__user__["email"]} {__chat_id__} {__metadata__["model_id"]} {__metadata__.get("extra")}'
                    return
                for word in body["messages"][-1]["content"].split():
                    yield word + "!"
    """,
    "again": """
        from open_webui.utils.chat import generate_chat_completion
        class Pipe:
            async def pipe(self, body, __request__):
                return await generate_chat_completion(__request__, {**body, "stream": False}, None)
    """,
    "narrow": """
        from open_webui.utils.chat import generate_chat_completion
        class Pipe:
            async def pipe(self, body, __request__):
                left = int(body["messages"][-1]["content"])
                form = {"model": "narrow", "messages": [{"role": "user", "content": str(left - 1)}]}
                if not left:
                    return "in"
                found = await generate_chat_completion(__request__, form, None)
                return "> " + found["choices"][0]["message"]["content"]
    """,
    "narrow_sync": """
        import asyncio
        from open_webui.utils.chat import generate_chat_completion
        class Pipe:
            def pipe(self, body, __request__):
                left = int(body["messages"][-1]["content"])
                form = {"model": "narrow_sync", "messages": [{"role": "user", "content": str(left - 1)}]}
                if not left:
                    return "in"
                found = asyncio.run(generate_chat_completion(__request__, form, None))
                return "> " + found["choices"][0]["message"]["content"]
    """,
    "secretive": """
        from pydantic import BaseModel
        class Pipe:
            class Valves(BaseModel):
                api_key: str = ""
                size: int = 1
                region: str = ""
            def pipe(self, body):
                return "x"
    """,
    "admins_only": "class Pipe:\n    def pipe(self, body):\n        return 'for admins'\n",
    "old_form": """
        import configparser
        from configparser import ConfigParser
        from utils.misc import get_last_user_message
        from config import UPLOAD_DIR
        from main import generate_chat_completions
        PROMPT = "from utils import nothing"
        class Pipe:
            def pipe(self, body):
                from apps.webui.models.users import Users
                try:
                    Users.get_user_by_id("x")
                except Exception as exc:
                    said = str(exc)
                last = get_last_user_message(body["messages"])
                return {"found": [last, PROMPT, said, generate_chat_completions.__module__]}
    """,
    "own_utils/main.py": """
        from utils.misc import NAME
        from config import SIZE
        class Pipe:
            def pipe(self, body):
                return {"found": [NAME, SIZE]}
    """,
    "own_utils/utils/misc.py": "NAME = 'mine'\n",
    "own_utils/config.py": "SIZE = 7\n",
    "lacking": probe(
        """
        import contextlib, importlib, types
        import open_webui.apps.webui.internals
        import open_webui.config as config
        from open_webui.internal.db import get_db, Base
        from open_webui.utils.chat import no_such_helper
        from open_webui.nowhere import Thing
        try:
            from open_webui.config import PERSISTENT_CONFIG_REGISTRY as registry
        except ImportError:
            registry = "a fallback"
        try:
            from open_webui.gone.completely import anything
        except (ImportError, ValueError):
            anything = "another"
        try:
            import open_webui.gone
        except Exception:
            gone = True
        with contextlib.suppress(ImportError):
            from open_webui.gone import suppressed
        try:
            late = importlib.import_module("open_webui.gone.late")
        except ModuleNotFoundError:
            late = "imported otherwise"
        unguarded = importlib.import_module("open_webui.gone.wanted")
        """,
        """
        async def fallbacks(self, request, user):
            assert "suppressed" not in globals() and unguarded.__name__ == "open_webui.gone.wanted"
            return [registry, anything, gone, late, getattr(config, "get_config", None), hasattr(config, "no_such")]

        async def use(self, request, user, how):
            uses = {
                "call": lambda: no_such_helper(1),
                "attribute": lambda: Thing.objects,
                "subclass": lambda: types.new_class("Own", (Thing,)),
                "class": lambda: exec("class Own(Base): pass", globals()),
                "index": lambda: Thing["x"],
                "with": lambda: get_db().__enter__(),
                "isinstance": lambda: isinstance(1, Thing),
                "union": lambda: Thing | None,
                "module": lambda: open_webui.apps.webui.internals.Deep,
            }
            if how == "await":
                return await Thing
            return uses[how]()
        """,
    ),
    "loud": """
        class Filter:
            def inlet(self, body):
                body["messages"][-1]["content"] += " filtered"
                return body
    """,
    "versioned": "class Pipe:\n    def pipe(self, body):\n        return 'first'\n",
    "failing": "class Pipe:\n    def pipe(self, body):\n        raise ValueError('on purpose')\n",
}
SETTINGS = {
    "secretive": "valves: {api_key: plain-secret, size: 3, region: {env: UP_KEY}}",
    "admins_only": "access: {roles: [admin]}",
    "loud": "models: [words]",
    "narrow": "limits: {concurrency: 1, timeout: 10s}",
    "narrow_sync": "limits: {concurrency: 1, timeout: 10s}",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with stub.serving() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def compat(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("compat") / "project")
    for id, text in FILES.items():
        project.write(id if id.endswith(".py") else f"{id}.py", text)
    for id, text in SETTINGS.items():
        project.write(f"{id}.yaml", text + "\n")
    project.configure(f'upstreams: [{{name: up, kind: openai, url: "{upstream.url}/v1", key: {{env: UP_KEY}}}}]')
    server = Server(project, environ={"UP_KEY": KEY})
    try:
        yield server.wait_ready()
    finally:
        server.stop()


class Caller:
    """A user of the server, who asks functions."""

    def __init__(self, server: Server, email: str | None = None) -> None:
        token = None if email is None else server.add_token("user", email)
        self.client = server.client(token)
        if email is None:
            self.id = "admin"
        else:
            with server.state() as state:
                user = state.user_by_email(email)
                assert user is not None
                self.id = user.id

    def ask(self, model: str, said: str, **more: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": said}], **more}
        answer = self.client.post(CHAT, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["found"]

    def post(self, model: str, said: str, **more: Any) -> httpx.Response:
        return self.client.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": said}], **more})


@pytest.fixture(scope="module")
def admin(compat: Server) -> Iterator[Caller]:
    caller = Caller(compat)
    with caller.client:
        yield caller


@pytest.fixture(scope="module")
def ada(compat: Server) -> Iterator[Caller]:
    caller = Caller(compat, "ada@example.org")
    with caller.client:
        yield caller


@pytest.fixture(scope="module")
def bob(compat: Server) -> Iterator[Caller]:
    caller = Caller(compat, "bob@example.org")
    with caller.client:
        yield caller


# ---- users, functions, models ------------------------------------------------------------------------------------


def test_a_user_is_found_however_the_author_asks(ada: Caller) -> None:
    own = ["UserModel", ada.id, "User", "ada@example.org", "user"]
    assert ada.ask("people", f"awaited {ada.id}") == own
    assert ada.ask("people", f"plain {ada.id}") == [True, False, False, "ada@example.org", "ada@example.org"]
    assert ada.ask("people", f"helper {ada.id}") == "user"
    found = ada.ask("people", f"elsewhere {ada.id}")
    assert found == [["ada@example.org"] * 2, [ada.id, "admin"], ada.id, ada.id]
    assert ada.ask("people", "fields") == [[], True, "user"]


def test_an_answer_that_was_not_awaited_is_as_good_as_one_that_was(ada: Caller) -> None:
    assert ada.ask("people", "like_plain_ones") == [True] * 6
    assert ada.ask("people", "as_data") == [False, True, 7, "text", {"a": 1.5}, ["marked"]]


@pytest.mark.parametrize("way", ["awaited", "plain", "helper"])
def test_nobody_is_none(ada: Caller, way: str) -> None:
    assert ada.ask("people", f"{way} nobody") is None


def test_of_others_a_user_sees_id_name_and_role(ada: Caller, bob: Caller, admin: Caller) -> None:
    assert ada.ask("people", f"awaited {bob.id}") == ["UserModel", bob.id, "User", "", "user"]
    assert admin.ask("people", f"awaited {bob.id}")[3] == "bob@example.org"
    assert ada.ask("people", "by_email bob@example.org") is None
    assert ada.ask("people", "by_email Ada@example.org") == ada.id
    assert admin.ask("people", "by_email bob@example.org") == bob.id


def test_functions_without_secrets_and_for_whom_may_use_them(ada: Caller, admin: Caller) -> None:
    assert ada.ask("people", "functions secretive") == [["secretive", "pipe", False, True], {"size": 3}, True]
    assert admin.ask("people", "functions secretive") == [["secretive", "pipe", True, True], {"size": 3}, True]
    assert ada.ask("people", "functions admins_only") == [None, None, False]
    assert admin.ask("people", "functions admins_only")[0] == ["admins_only", "pipe", True, True]


def test_models_are_those_of_the_caller(ada: Caller, admin: Caller) -> None:
    assert ada.ask("people", "models words") == [["words", "words", None], "words", False]
    assert ada.ask("people", "models base-model")[0][0] == "base-model"
    assert ada.ask("people", "models admins_only") == [None, None, False]
    assert admin.ask("people", "models admins_only")[0][0] == "admins_only"


def test_what_a_function_puts_into_the_state_of_the_application_stays(ada: Caller, bob: Caller) -> None:
    own = ["bypass_filter", "metadata", "model_id", "token", "user"]
    assert ada.ask("people", "state one") == [[None, None, 7], "one", True, own]
    assert bob.ask("people", "state two") == [["one", "one", 7], "two", True, own]


def test_a_request_that_a_function_keeps_shows_the_models_of_who_calls(ada: Caller, admin: Caller) -> None:
    assert admin.ask("people", "kept") == [["admins_only"]]
    assert ada.ask("people", "kept") == [[], []]
    assert admin.ask("people", "kept") == [["admins_only"]] * 3


def test_a_method_that_is_not_provided_says_so(ada: Caller) -> None:
    found = ada.ask("people", "nothing")
    assert found["error"] == "NotProvided", found
    assert found["said"].startswith("open_webui.models.users.Users.delete_user_by_id is not provided by fnsync: do")


# ---- completions -------------------------------------------------------------------------------------------------


def test_a_completion_by_a_function_and_by_a_base_model(ada: Caller) -> None:
    assert ada.ask("asking", "plain words hello") == ["dict", "hello!", "words"]
    assert ada.ask("asking", "plain base-model") == ["dict", "one two three", "base-model"]
    assert ada.ask("asking", "thread words") == "hello!"


def test_filters_run_for_the_full_completion_only(ada: Caller) -> None:
    assert ada.ask("asking", "full words") == "hello!filtered!"


def test_a_stream_comes_in_events(ada: Caller) -> None:
    media_type, types, chunks = ada.ask("asking", "stream words")
    assert (media_type.partition(";")[0], types) == ("text/event-stream", ["str"])
    assert all(chunk.startswith("data: ") and chunk.endswith("\n\n") for chunk in chunks)
    assert chunks[-1] == "data: [DONE]\n\n"
    texts = [json.loads(chunk[6:])["choices"][0]["delta"].get("content") for chunk in chunks[:-1]]
    assert texts == ["a!", "b!", None]
    _, types, chunks = ada.ask("asking", "stream base-model")
    assert types == ["bytes"]
    assert "".join(chunks).count('"content"') == 3


def test_the_inner_call_is_of_the_same_user_and_chat(ada: Caller) -> None:
    found = ada.ask("asking", "plain words about", chat_id="chat-7")
    assert found[1] == "ada@example.org chat-7 words None"
    assert ada.ask("asking", "metadata") == ["own", "given"]


@pytest.mark.parametrize("how", ["leave", "unread"])
def test_a_stream_that_is_not_read_to_its_end_is_ended(ada: Caller, upstream: Upstream, how: str) -> None:
    upstream.left.clear()
    ada.ask("asking", f"{how} base-model")
    assert upstream.left.wait(20), "the provider went on with an answer that nobody reads"


def test_calls_of_two_users_at_once_stay_apart(ada: Caller, bob: Caller) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [(caller, pool.submit(caller.ask, "asking", "twice")) for caller in [ada, bob] * 12]
        for caller, answer in asked:
            email = "ada@example.org" if caller is ada else "bob@example.org"
            assert set(answer.result()) == {email}


def test_inner_calls_run_what_was_live_when_the_request_came(ada: Caller, compat: Server, upstream: Upstream) -> None:
    upstream.release.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ada.ask, "asking", "around")
        wait_for("the question", lambda: [one for one in upstream.requests if b"!silent" in one.body])
        compat.add("versioned", FILES["versioned"].replace("first", "second"))
        now = ada.post("versioned", "hi").json()["choices"][0]["message"]["content"]
        upstream.release.set()
        assert (now, answer.result()) == ("second", ["first", "one two three", "first"])


def test_errors_of_completions(ada: Caller, admin: Caller) -> None:
    missing = {"error": "Exception", "said": "Model not found"}
    assert ada.ask("asking", "plain no_such_model") == missing
    assert ada.ask("asking", "plain admins_only") == missing
    assert admin.ask("asking", "plain admins_only")[1] == "for admins"
    assert ada.ask("asking", "plain base-model !status_429")[0] == 429
    assert ada.ask("asking", "other words") == {
        "error": "HTTPException",
        "said": "a function can ask for completions in the name of its caller only",
    }
    assert ada.ask("asking", "plain failing") == {"error": "HTTPException", "said": "on purpose"}


@pytest.mark.parametrize("model", ["narrow", "narrow_sync"])
def test_a_call_does_not_wait_for_the_place_of_one_that_waits_for_it(ada: Caller, model: str) -> None:
    def said(depth: int) -> httpx.Response:
        return ada.post(model, str(depth))

    assert said(3).json()["choices"][0]["message"]["content"] == "> > > in"
    too_deep = said(6)
    assert too_deep.status_code == 500 and "6 calls running" not in too_deep.text, too_deep.text
    assert "4 calls running and 0 waiting" in too_deep.text
    assert said(0).json()["choices"][0]["message"]["content"] == "in"


def test_nesting_is_bounded(ada: Caller) -> None:
    answer = ada.post("again", "x")
    assert answer.status_code == 500
    assert "nested deeper than 8 calls" in answer.json()["error"]["message"]


# ---- files and documents -----------------------------------------------------------------------------------------


def test_files_are_kept_and_served_to_their_owner(ada: Caller, bob: Caller, compat: Server) -> None:
    id, address = ada.ask("keeping", "upload note.txt hello")
    assert address == f"/api/v1/files/{id}/content"
    found = ada.ask("keeping", f"read {id}")
    assert found[:2] == ["hello", "note.txt"]
    assert (found[2]["content_type"], found[2]["size"], len(found[3]), found[4]) == ("text/plain", 5, 64, True)
    answer = ada.client.get(address)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "hello", "text/plain")
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''note.txt"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert bob.client.get(address).status_code == 404
    assert bob.ask("keeping", f"read {id}") is None
    assert httpx.get(compat.url + address).status_code == 401
    assert ada.ask("keeping", f"forget {id}") == [True, None]
    assert ada.client.get(address).status_code == 404


def test_copies_are_the_calls_own(ada: Caller, bob: Caller) -> None:
    id, _ = ada.ask("keeping", "upload note.txt hello")
    assert ada.ask("keeping", f"copies {id}")[:2] == [None, True]
    before, now, count = ada.ask("keeping", f"copies {id}")
    assert (before, now) == (False, True)
    assert count < 5, "copies of calls that are over stay"
    assert ada.ask("keeping", "remembered path") == "hello"
    assert bob.ask("keeping", "remembered path")["error"] == "FileNotFoundError", "another user's file is read"


def test_a_page_among_the_files_is_saved_and_not_shown(ada: Caller) -> None:
    assert ada.ask("keeping", "stored page.html <b>x</b>") == ["<b>x</b>", "page.html", True, "<b>x</b>"]
    answer = ada.client.get("/api/files/page.html/content")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_a_function_writes_into_uploads_is_kept(ada: Caller) -> None:
    assert ada.ask("keeping", "written own.txt text") == "own.txt"
    assert ada.client.get("/api/v1/files/own.txt/content").text == "text"


def test_files_are_there_in_another_worker(ada: Caller, compat: Server) -> None:
    id, _ = ada.ask("keeping", "upload note.txt hello yes")
    compat.add("reader", textwrap.dedent(FILES["keeping"]))
    assert ada.ask("reader", f"read {id}")[0] == "hello"


@pytest.mark.parametrize("path", ["/etc/hosts", "../../../etc/no_such", "0123456789abcdef0123456789abcdef_x"])
def test_paths_lead_nowhere_else(ada: Caller, path: str) -> None:
    assert ada.ask("keeping", f"outside {path}")["error"] == "FileNotFoundError"


def test_bounds_of_files(ada: Caller) -> None:
    assert ada.ask("keeping", "empty")["error"] == "ValueError"
    found = ada.ask("keeping", "large")
    assert found["said"] == "a file of 40,000,000 is larger than the 33,554,432 that is allowed"


def test_chats_that_functions_write_are_read_back(ada: Caller, bob: Caller) -> None:
    files, more, title, history, content = ada.ask("keeping", "chat chat-1")
    assert (files, more) == ([{"id": "f"}], [{"id": "f"}, {"id": "g"}])
    assert (title, content, history["currentId"]) == ("New Chat", "one", "m2")
    assert history["messages"]["m1"]["childrenIds"] == ["m2"]
    assert bob.ask("keeping", "chats chat-1") == [None, None, 0]
    assert ada.ask("keeping", "chats no-chat")[:2] == [None, None]
    assert ada.ask("keeping", "together chat-2") == list(range(24))
    id, _ = ada.ask("keeping", "upload note.txt hello")
    assert ada.ask("keeping", f"chat_files chat-1 {id}") == [[id], None]
    assert ada.ask("keeping", "folders") == ["one", {"x": 1}, ["text"]]


def test_what_no_module_of_ours_asks_is_refused(ada: Caller, compat: Server) -> None:
    """A worker is not trusted: its code can ask for anything."""
    before = len(compat.log())
    assert ada.ask("keeping", "odd") == [True, False, False, "invalid", "invalid", "invalid"]
    assert "host_call_failed" not in compat.log()[before:]


def test_what_is_kept_goes_with_the_user(compat: Server, admin: Caller) -> None:
    eve = Caller(compat, "eve@example.org")
    id, address = eve.ask("keeping", "upload note.txt hello")
    admin.client.delete(f"/api/users/{eve.id}").raise_for_status()
    filing = Filing(compat.data / "filing.sqlite3")
    assert filing.kept(eve.id, "file", id) is None
    filing.close()
    eve.client.close()


# ---- what is not provided, and imports of older forms ------------------------------------------------------------


def test_imports_of_an_older_form_mean_those_below_open_webui(ada: Caller) -> None:
    said, prompt, error, module = ada.ask("old_form", "hi")
    assert (said, prompt) == ("hi", "from utils import nothing")
    assert error.startswith("open_webui.apps.webui.models.users.Users.get_user_by_id is not provided by fnsync")
    assert module.endswith("open_webui.main")


def test_modules_of_the_function_itself_come_first(ada: Caller) -> None:
    assert ada.ask("own_utils", "hi") == ["mine", 7]


def test_guarded_imports_of_what_is_not_provided_fall_back(ada: Caller) -> None:
    assert ada.ask("lacking", "fallbacks") == [
        "a fallback",
        "another",
        True,
        "imported otherwise",
        None,
        False,
    ]


@pytest.mark.parametrize(
    ("how", "symbol"),
    [
        ("call", "open_webui.utils.chat.no_such_helper"),
        ("attribute", "open_webui.nowhere.Thing.objects"),
        ("subclass", "open_webui.nowhere.Thing"),
        ("class", "open_webui.internal.db.Base"),
        ("index", "open_webui.nowhere.Thing"),
        ("await", "open_webui.nowhere.Thing"),
        ("with", "open_webui.internal.db.get_db"),
        ("isinstance", "open_webui.nowhere.Thing"),
        ("union", "open_webui.nowhere.Thing"),
        ("module", "open_webui.apps.webui.internals.Deep"),
    ],
)
def test_use_of_what_is_not_provided_is_one_clear_error(ada: Caller, how: str, symbol: str) -> None:
    found = ada.ask("lacking", f"use {how}")
    assert found["error"] == "NotProvided", found
    assert found["said"].startswith(f"{symbol} is not provided by fnsync: do without it, or import it within `try:")
