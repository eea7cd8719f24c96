"""What is seen in a source file without running it."""

from __future__ import annotations

import warnings
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fnsync.errors import SourceError
from fnsync.model import Inspection, Kind
from fnsync.source import inspection
from fnsync.source.secrets import is_secret_name

NONE: frozenset[str] = frozenset()


def inspect(text: str, helpers: frozenset[str] = NONE, shared: frozenset[str] = NONE) -> Inspection:
    return inspection.inspect(dedent(text), "f.py", helpers=helpers, shared=shared)


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("class Pipe: ...", Kind.PIPE, 1),
        ("class Filter: ...", Kind.FILTER, 1),
        ("class Action: ...", Kind.ACTION, 1),
        ("class Event: ...", Kind.EVENT, 1),
        ("class Pipeline: ...", Kind.PIPELINE, 1),
        ("class Filter: ...\nclass Pipe: ...", Kind.PIPE, 2),
        ("from multiprocessing import Pipe\nclass Filter: ...", Kind.FILTER, 2),
        ("from threading import Event", None, None),
        ("import base\nPipe = base.Pipe", None, None),
        ("class MyPipe: ...\nPipe = MyPipe", Kind.PIPE, 1),
        ("class A: ...\nB = A\nPipe: type = B", Kind.PIPE, 1),
        ("class MyPipe: ...\ndef Pipe():\n    return MyPipe()", Kind.PIPE, 2),
        ("try:\n    import x\nexcept ImportError:\n    class Pipe: ...", Kind.PIPE, 4),
        ("if True:\n    pass\nelse:\n    class Pipe: ...", Kind.PIPE, 4),
        ("def f():\n    class Pipe: ...", None, None),
        ("class Outer:\n    class Pipe: ...", None, None),
        ("Pipe = Pipe", None, None),
        ("A = B\nB = A\nPipe = A", None, None),
        ("class Tools: ...", None, None),
        ("", None, None),
    ],
)
def test_the_kind_is_that_of_a_class_in_the_file(text: str, kind: Kind | None, line: int | None) -> None:
    found = inspection.inspect(text, "f.py", helpers=NONE, shared=NONE)

    assert found.kind == kind
    assert found.class_line == line


def test_a_file_without_a_class_says_what_it_has() -> None:
    problem = inspection.no_class(inspect("class Tools: ...\nclass Other: ..."), "f.py")

    assert problem.code == "no_class"
    assert "Tools, Other" in problem.message
    assert "Pipe" in problem.message
    assert "start the file's name with _" in (problem.hint or "")
    assert "no class" in inspection.no_class(inspect(""), "f.py").message


def test_handlers_with_what_callers_need_to_know() -> None:
    found = inspect("""
        class Base:
            def inlet(self, body): ...
            async def outlet(self, body, __user__=None): ...
        class Filter(Base, metaclass=type):
            @staticmethod
            def pipe(body): yield from body
            async def pipes(self, *, __user__=None, **extra):
                def inner(): yield 1
                return []
            async def outlet(this, body, /, more):
                yield (lambda: 1)
            stream = lambda self, event: event
            def _request(self): ...
            request = _request
            def helper(self): ...
        """)
    handlers = {handler.name: handler for handler in found.handlers}

    assert set(handlers) == {"inlet", "outlet", "pipe", "pipes", "stream", "request"}
    assert handlers["inlet"].parameters == ("body",)
    assert handlers["inlet"].line == 3
    assert handlers["pipe"].parameters == ("body",)
    assert handlers["pipe"].is_generator and not handlers["pipe"].is_async
    assert handlers["pipes"].parameters == ("__user__",)
    assert handlers["pipes"].var_keyword and handlers["pipes"].is_async and not handlers["pipes"].is_generator
    assert handlers["outlet"].parameters == ("body", "more")
    assert handlers["outlet"].is_async and handlers["outlet"].is_generator
    assert handlers["stream"].parameters == ("event",)
    assert handlers["request"].parameters == ()


def test_valves_with_what_is_literal() -> None:
    found = inspect("""
        class Shared(BaseModel):
            priority: int = 0
        class Pipe:
            class Valves(Shared):
                url: str = Field("https://example.org", description="Where " "to ask")
                limit: int = Field(default=-5)
                names: list[str] = Field(default_factory=lambda: ["a"])
                bag: dict = Field(default_factory=dict)
                home: str = Field(default=os.getenv("HOME"), description=f"x")
                needed: str
                also: str = Field(...)
                mode: Annotated[
                    str, Field(description="How")
                ] = "fast"
                kinds: ClassVar[int] = 3
                model_config = {}
                _private: int = 1
                odd: bytes = b"x"
                half: str = "\\ud800"
            class UserValves(Valves):
                tone: Literal["a", "b"] = "a"
            def pipe(self, body): ...
        """)
    assert found.valves is not None and found.user_valves is not None
    fields = {field.name: field for field in found.valves}

    assert list(fields) == [
        "priority", "url", "limit", "names", "bag", "home", "needed", "also", "mode", "odd", "half",
    ]  # fmt: skip
    defaults = {name: field.default for name, field in fields.items() if field.literal}
    assert defaults == {
        "priority": 0,
        "url": "https://example.org",
        "limit": -5,
        "names": ["a"],
        "bag": {},
        "mode": "fast",
    }
    assert [name for name, field in fields.items() if field.required] == ["needed", "also"]
    assert fields["url"].description == "Where to ask"
    assert fields["mode"].description == "How"
    assert fields["mode"].annotation == 'Annotated[ str, Field(description="How") ]'
    assert fields["priority"].line == 3
    assert fields["url"].line == 6
    assert [field.name for field in found.user_valves][-1] == "tone"
    assert len(found.user_valves) == len(found.valves) + 1


@pytest.mark.parametrize(
    "body",
    [
        "class Valves:\n        a: int = 1",
        "Valves = Outer",
        "class UserValves: ...\n    Valves = Holder.Inner",
        "class Valves(Outer): ...",
    ],
)
def test_valves_are_found_where_the_class_points(body: str) -> None:
    outer = "class Outer:\n    a: int = 1\nclass Holder:\n    class Inner:\n        a: int = 1\n"
    found = inspect(f"{outer}class Pipe:\n    {body}\n")

    assert found.valves is not None
    assert [field.name for field in found.valves] == ["a"]


def test_a_pipeline_may_take_any_class_for_its_valves() -> None:
    found = inspect("""
        class Settings:
            a: int = 1
        class Pipeline:
            def __init__(self):
                self.valves = Settings(**{"a": 2})
        """)
    assert found.valves is not None
    assert [field.name for field in found.valves] == ["a"]


def test_no_valves_and_empty_valves_differ() -> None:
    assert inspect("class Pipe: ...").valves is None
    assert inspect("class Pipe:\n    class Valves: ...").valves == ()


@pytest.mark.parametrize(
    ("field", "secret"),
    [
        ("api_key: str", True),
        ("OPENAI_API_KEY: str = ''", True),
        ("YouTube_API_Key: str", True),
        ("apiKey: str", True),
        ("APIKey: str", True),
        ("auth_token: Optional[str] = None", True),
        ("PASSWORD: str", True),
        ("client_secret: str", True),
        ("x: SecretStr = ''", True),
        ("x: SecretStr | None = None", True),
        ("x: Secret[str]", True),
        ("x: dict[str, pydantic.Secret[bytes]]", True),
        ("x: SecretKind", False),
        ("pin: str = Field('', json_schema_extra={'input': {'type': 'password'}})", True),
        ("pin: str = Field('', json_schema_extra={'a': f(), **more, 'input': {'type': 'password'}})", True),
        ("pin: str = Field('', json_schema_extra={'input': {'type': 'select'}})", False),
        ("monkey: str", False),
        ("keyboard: str", False),
        ("tokenizer: str", False),
        ("max_tokens: int = 5", False),
        ("use_api_key: bool = True", False),
        ("max_token: int | None = None", False),
        ("secretary: str", False),
        ("dbpassword: str", True),
        ("token_limit: int = 5", False),
    ],
)
def test_secret_fields(field: str, secret: bool) -> None:
    found = inspect(f"class Pipe:\n    class Valves:\n        {field}\n")

    assert found.valves is not None
    assert found.valves[0].secret is secret


@pytest.mark.parametrize(
    "word",
    [
        *("api_key", "auth_token", "access_token", "access_tokens", "secret_key", "client_secret", "private_key"),
        *("db_password", "db_pwd", "pass_code", "pass_phrase", "refresh_token", "ssh_key", "master_key", "bot_token"),
        *("authorization", "credentials", "credential", "pwd", "passwd", "secrets", "keys", "key", "creds"),
    ],
)
def test_secret_names_in_all_spellings(word: str) -> None:
    parts = word.split("_")
    camel = parts[0] + "".join(part.title() for part in parts[1:])
    for name in (word, word.upper(), camel, camel[0].upper() + camel[1:], word.replace("_", "-"), f"openai_{word}"):
        assert is_secret_name(name), name
    together = "".join(parts)
    for name in (together, together.upper(), together.title(), f"{together}_2", f"my_{together}"):
        assert is_secret_name(name), name


@pytest.mark.parametrize(
    "name",
    [
        *("primary_key", "proxy-authorization", "X-Api-Key", "x-amz-security-token", "DBPassword", "APIKeys"),
        *("openaiapikey", "slacktoken", "rootpwd", "GOOGLE_APPLICATION_CREDENTIALS"),
        *("smtp_pass", "SMTP_PASS", "smtpPass", "pass", "pass_2", "pw", "api_pw", "passwort", "dbPasswort"),
        *(
            "bearer",
            "X-Bearer",
            "auth",
            "basic_auth",
            "proxyAuth",
            "jwt",
            "session_jwt",
            "cookie",
            "Set-Cookie",
            "cookies",
        ),
    ],
)
def test_more_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("max_tokens", "maxTokens", "maxtokens", "total_tokens", "tokens", "token_limit", "tokenLimit", "token_count"),
        *(
            "password_length",
            "keyboard",
            "monkey",
            "turkey",
            "hockey",
            "keyed",
            "tokenizer",
            "tokenize",
            "tokenization",
        ),
        *(
            "use_auth",
            "enableAuth",
            "auth_type",
            "oauth",
            "jwt_algorithm",
            "cookie_name",
            "bearer_format",
            "pwm",
            "spw",
        ),
        *("pass_through_headers", "passThru", "passed", "passenger"),
        *("passthrough", "pass_through", "passage", "compass", "bypass", "author", "authority", "authors", "auth_mode"),
        *("secretary", "accredited", "sacred_text", "", "_", "7", "ключ"),
    ],
)
def test_names_of_no_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *(
            (name, True)
            for name in ("tokens", "max_tokens", "bot_tokens", "token_limit", "password_length", "key_limit")
        ),
        *((name, False) for name in ("limit", "max_length", "tokenizer", "bypass", "author")),
    ],
)
def test_a_text_is_no_count(name: str, secret: bool) -> None:
    assert is_secret_name(name, text=True) is secret
    assert not is_secret_name(name)


def test_imports_with_their_origin() -> None:
    found = inspect(
        """
        from __future__ import annotations
        import os.path, httpx
        from _team import names
        from .helper import a
        from . import other, _near
        import tools.deep
        if TYPE_CHECKING:
            from utils.types import T
        else:
            import json
        try:
            import torch
        except (ImportError, OSError):
            import numpy
        class Pipe:
            def pipe(self):
                import rich
        """,
        helpers=frozenset({"tools", "helper"}),
        shared=frozenset({"_team", "_near"}),
    )
    assert [(item.module, item.origin, item.guarded) for item in found.imports] == [
        ("__future__", "standard", False),
        ("os.path", "standard", False),
        ("httpx", "third_party", False),
        ("_team", "shared", False),
        (".helper", "local", False),
        (".other", "local", False),
        ("._near", "shared", False),
        ("tools.deep", "local", False),
        ("utils.types", "third_party", True),
        ("json", "standard", False),
        ("torch", "third_party", True),
        ("numpy", "third_party", False),
        ("rich", "third_party", True),
    ]
    assert found.imports[3].line == 4


def test_a_syntax_error_says_where_and_shows_the_line() -> None:
    with pytest.raises(SourceError) as caught:
        inspect("x = 1\ndef f(:\n    pass\n")
    problem = caught.value.problem

    assert (problem.code, problem.path, problem.line, problem.column) == ("syntax", "f.py", 2, 7)
    assert problem.text == "def f(:"
    assert "invalid syntax" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 5000,
        "x = " + "(" * 150 + ")" * 150 + "[" * 3000,
        "x = " + "-" * 200_000 + "1",
        "x = " + "+".join("1" * 200_000),
        "x = " + "a." * 100_000 + "b",
        "x = " + "[" * 199 + "]" * 199,
        "x = 1\x00",
        "x = " + "9" * 10_000,
        "if 1:\n" + "".join(" " * i + "if 1:\n" for i in range(1, 200)),
        "\ud800",
    ],
)
def test_extreme_texts_are_refused_or_read(text: str) -> None:
    try:
        inspection.inspect(text, "f.py", helpers=NONE, shared=NONE)
    except SourceError as exc:
        assert exc.problem.code == "syntax"


def test_odd_escapes_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inspect("x = '\\d'\nclass Pipe: ...").kind is Kind.PIPE


WORDS = ["class Pipe", "class Valves", "(Valves)", "(Pipe)", ":", "\n", "\n    ", "\n        ", "a: int = 1", "Pipe = ", "Valves", "def pipe(self)", "def Pipe()", "return Pipe()", "@staticmethod", "lambda: 1", "Field(", ")", "Annotated[", "]", "import ", "from ", ".", "_x", "..."]  # fmt: skip  # noqa: E501


@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join) | st.text())
@example("class Pipe(Pipe): ...")
@example("class A(B): ...\nclass B(A): ...\nPipe = A")
@example("class Pipe:\n    Valves = Valves")
@example("class Pipe:\n    class Valves(Valves): a: int")
@example("class Pipe:\n    def pipe(): ...")
@example("class Pipe:\n    pipe = pipe")
def test_any_text_is_inspected_or_refused(text: str) -> None:
    try:
        found: Any = inspection.inspect(text, "f.py", helpers=NONE, shared=NONE)
    except SourceError as exc:
        assert exc.problem.message
    else:
        assert isinstance(found, Inspection)
