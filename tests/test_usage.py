"""What function files use of open_webui, and what is provided of it: seen without running anything."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from textwrap import dedent

import pytest

from fnsync.plan import denied_import
from fnsync.source import provided, usage
from fnsync.source.imports import REWRITTEN
from fnsync.source.packages import PACKAGES
from fnsync.source.reading import read
from fnsync.worker import rewriting
from tests.commands import run
from tests.conftest import Project

#: The symbols of function-contract §9.1 and §9.2.
CONTRACT = """
models.users: Users.get_user_by_id Users.get_first_user User UserModel
utils.chat: generate_chat_completion
main: generate_chat_completions chat_completion
models.chats: Chats.get_chat_by_id Chats.get_chat_by_id_and_user_id Chats.get_message_by_id_and_message_id
    Chats.add_message_files_by_id_and_message_id Chats.insert_chat_files Chats.get_messages_map_by_chat_id
    Chats.upsert_message_to_chat_by_id_and_message_id
models.files: Files.get_file_by_id Files.insert_new_file Files.get_file_metadata_by_id FileForm FileMetadataResponse
env: VERSION SRC_LOG_LEVELS AIOHTTP_CLIENT_TIMEOUT ENABLE_FORWARD_USER_INFO_HEADERS
    FORWARD_SESSION_INFO_HEADER_CHAT_ID FORWARD_SESSION_INFO_HEADER_MESSAGE_ID
constants: TASKS
models.models: Models.get_model_by_id ModelForm ModelParams ModelModel ModelUserResponse
models.functions: Functions.get_function_by_id Functions.get_function_valves_by_id FunctionForm FunctionMeta
    FunctionModel
storage.provider: Storage.upload_file Storage.get_file
routers.files: upload_file_handler upload_file Files
utils.tools: get_tools get_builtin_tools get_terminal_tools
utils.misc: get_last_user_message get_last_user_message_item pop_system_message deep_update get_message_list
    is_string_allowed convert_output_to_messages
models.folders: Folders FolderUpdateForm
models.skills: Skills SkillForm SkillMeta
models.tools: Tools.get_tool_by_id Tools.get_tools_by_user_id Tools.get_tools ToolUserModel
models.config: Config.get
utils.middleware: process_tool_result
utils.logger: stdout_format
config: TOOL_SERVER_CONNECTIONS UPLOAD_DIR
models: messages
routers.models: get_models
routers.images: upload_image
utils.plugin: extract_frontmatter
utils.payload: convert_payload_openai_to_ollama
utils.headers: include_user_info_headers
"""


def contract() -> list[str]:
    found, module = [], ""
    for word in CONTRACT.split():
        if word.endswith(":"):
            module = word[:-1]
        else:
            found.append(f"open_webui.{module}.{word}")
    return found


@pytest.mark.parametrize("symbol", contract())
def test_what_the_contract_names_is_provided(symbol: str) -> None:
    assert provided.is_provided(symbol)


def test_what_is_told_to_be_provided_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a worker's own folder
    for name, module in provided.modules().items():
        loaded = importlib.import_module(f"fnsync.worker.compat.{name}")
        for symbol in module.names:
            assert hasattr(loaded, symbol), f"{name}.{symbol}"
        for owner, methods in module.methods.items():
            for method in methods:
                assert callable(getattr(getattr(loaded, owner), method)), f"{name}.{owner}.{method}"


def test_old_names_are_the_same_for_who_looks_and_who_loads() -> None:
    assert REWRITTEN == rewriting.NAMES
    assert (REWRITTEN | {"open_webui"}).isdisjoint(PACKAGES), "they need no requirement"


def told(source: str, old: frozenset[str] = frozenset()) -> dict[str, tuple[int, bool, bool]]:
    found = usage.uses(ast.parse(dedent(source)), old)
    return {use.symbol.removeprefix("open_webui."): (use.line, use.provided, use.guarded) for use in found}


def test_uses_by_line_whether_provided_and_whether_guarded() -> None:
    source = """
        import open_webui.env as env
        from typing import TYPE_CHECKING
        from open_webui.models.users import Users as People
        from open_webui.internal.db import get_db
        if TYPE_CHECKING:
            from open_webui.models.hidden import Hidden
        try:
            from open_webui.config import get_config
        except ImportError:
            get_config = None
        with open("x"), contextlib.suppress(ValueError, ImportError):
            from open_webui.config import get_other
        def work():
            import open_webui.models.files
            print(open_webui.models.files.Files.get_file_by_id, env.VERSION.split, env.NOTHING)
            People.get_user_by_id(1).email
            People.delete_user_by_id(1)
            from .utils import relative
    """
    assert told(source) == {
        "env": (2, True, False),
        "models.users.Users": (4, True, False),
        "internal.db.get_db": (5, False, False),
        "config.get_config": (9, False, True),
        "config.get_other": (13, False, True),
        "models.files": (15, True, False),
        "models.files.Files": (16, True, False),
        "models.files.Files.get_file_by_id": (16, True, False),
        "env.VERSION": (16, True, False),
        "env.NOTHING": (16, False, False),
        "models.users.Users.get_user_by_id": (17, True, False),
        "models.users.Users.delete_user_by_id": (18, False, False),
    }


def test_old_forms_of_imports_count_where_they_are_rewritten() -> None:
    source = "from utils.misc import get_last_user_message\nimport configparser, utils\nfrom configparser import x\n"
    assert told(source, usage.old_names(frozenset({"config"}))) == {
        "utils.misc.get_last_user_message": (1, True, False)
    }
    assert told(source, usage.old_names(frozenset({"utils"}))) == {}


def test_a_policy_against_open_webui_holds_for_old_forms(project: Project) -> None:
    project.write("old.py", "from utils.misc import x\nclass Pipe:\n    def pipe(self, body): ...\n")
    project.write("theirs.py", "from utils.pipelines.main import x\nclass Pipeline:\n    def pipe(self, body): ...\n")
    problem = denied_import(read(project.functions, "old.py").unit, ["open_webui"])
    assert problem is not None and problem.line == 1
    assert denied_import(read(project.functions, "theirs.py").unit, ["open_webui"]) is None


# ---- rewriting as the worker does it -------------------------------------------------------------------------------


def rewritten(source: str, entry: Path) -> list[tuple[int, str | None]] | None:
    tree = rewriting.tree(dedent(source).encode(), entry)
    if tree is None:
        return None
    return [(node.lineno, node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_statements_alone_are_rewritten_and_keep_their_lines(tmp_path: Path) -> None:
    source = '''\
        """from utils import x"""
        import utils
        from configparser import ConfigParser
        from utils_of_mine import y
        from .utils import z
        from . import config
        from main import a; from config import (
            B,
        )
        TEXT = "from utils import nothing"
        class Pipe: ...
    '''
    found = rewritten(source, tmp_path / "main.py")
    modules = ["configparser", "utils_of_mine", "utils", None, "open_webui.main", "open_webui.config"]
    assert found == list(zip([3, 4, 5, 6, 7, 7], modules, strict=True))


@pytest.mark.parametrize(
    "source",
    [
        "x = 'from utils import y'\nclass Pipe: ...\n",
        "from utils.pipelines.main import get_last_user_message\nclass Pipeline: ...\n",
        "from .utils import y\nclass Pipe: ...\n",
    ],
)
def test_nothing_else_is_rewritten(tmp_path: Path, source: str) -> None:
    assert rewritten(source, tmp_path / "main.py") is None


def test_modules_of_the_environment_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "utils.py").write_text("")
    (tmp_path / "main.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = "from utils import x\nfrom main import y\nclass Pipe: ...\n"
    assert rewritten(source, tmp_path / "main.py") == [(1, "utils"), (2, "open_webui.main")]


# ---- fnsync check --------------------------------------------------------------------------------------------------


@pytest.fixture
def checked(project: Project) -> Project:
    project.write("good.py", "from open_webui.env import VERSION\nclass Pipe:\n    def pipe(self, body): ...\n")
    project.write("plain.py", "class Pipe:\n    def pipe(self, body): ...\n")
    project.write("bad/main.py", "import helper\nclass Pipe:\n    def pipe(self, body): ...\n")
    project.write("bad/helper.py", "\nfrom open_webui.internal.db import get_db\n")
    project.write("broken.py", "class Pipe:\n    def pipe(self, body) ...\n")
    return project


def test_check_lists_what_functions_use(checked: Project) -> None:
    done = run(checked.root, "check", "--compat")
    assert done.returncode == 1
    assert "✓ good (pipe)\n    ✓ open_webui.env.VERSION  functions/good.py:1\n" in done.stdout
    assert "✓ plain (pipe)  uses nothing of open_webui\n" in done.stdout
    missing = "    ✗ open_webui.internal.db.get_db  functions/bad/helper.py:2: not provided; an error where it is used"
    assert f"✗ bad (pipe)\n{missing}\n" in done.stdout
    assert "✗ broken\n    functions/broken.py:2:26: SyntaxError: expected ':'" in done.stdout


def test_check_prints_json_and_looks_at_those_named(checked: Project) -> None:
    done = run(checked.root, "check", "good", "--compat", "--json")
    [found] = json.loads(done.stdout)
    use = {"path": "good.py", "symbol": "open_webui.env.VERSION", "line": 1, "provided": True, "guarded": False}
    assert (done.returncode, found["uses"], found["problem"]) == (0, [use], None)
    assert run(checked.root, "check", "plain").stdout == "✓ plain (pipe)\n"
    unknown = run(checked.root, "check", "nobody")
    assert (unknown.returncode, "there is no function 'nobody'" in unknown.stderr) == (5, True)
