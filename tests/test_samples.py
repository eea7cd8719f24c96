"""The sample functions: each loads, is described, works offline, and does what its description says."""

from __future__ import annotations

import ast
import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from fnsync.config import load

ROOT = Path(__file__).parents[1]
FUNCTIONS = ROOT / "functions"
SOURCES = sorted(path for path in FUNCTIONS.glob("*.py") if not path.name.startswith("_")) + sorted(
    FUNCTIONS.glob("*/main.py")
)
CLASSES = {"Pipe", "Filter", "Action", "Event"}


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a sample as a worker does: the shared modules and what lies beside it can be imported."""
    before = set(sys.modules)

    def import_sample(name: str) -> ModuleType:
        path = FUNCTIONS / f"{name}.py"
        monkeypatch.syspath_prepend(str(FUNCTIONS if path.exists() else FUNCTIONS / name))
        if not path.exists():
            monkeypatch.syspath_prepend(str(FUNCTIONS))
            path = FUNCTIONS / name / "main.py"
        spec = importlib.util.spec_from_file_location(f"sample_{name}", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield import_sample
    for added in set(sys.modules) - before:
        if (getattr(sys.modules[added], "__file__", None) or "").startswith(str(FUNCTIONS)):
            del sys.modules[added]


def body(text: Any, model: str = "m") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def sample_id(path: Path) -> str:
    return path.parent.name if path.name == "main.py" else path.stem


@pytest.mark.parametrize("path", SOURCES, ids=sample_id)
def test_a_sample_is_described_and_needs_no_network(path: Path) -> None:
    tree = ast.parse(path.read_text())
    text = ast.get_docstring(tree) or ""
    for key in ("title: ", "description: ", "version: "):
        assert key in text, f"{path.name} has no {key.strip(': ')} in its first docstring"
    assert "requirements:" not in text
    assert len(CLASSES & {node.name for node in tree.body if isinstance(node, ast.ClassDef)}) == 1
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"requests", "httpx", "aiohttp", "urllib.request", "socket"}


def test_the_sample_configuration_is_valid() -> None:
    config = load(ROOT / "fnsync.yaml", {})
    assert config.functions == FUNCTIONS


def test_a_checkout_has_a_sample_of_every_kind() -> None:
    text = {sample_id(path): path.read_text() for path in SOURCES}
    assert "def pipes(" in text["text"]
    assert "yield " in text["outline"]
    assert "class Filter" in text["redact"]
    assert "class Action" in text["contents"]
    assert "glossary" in text
    assert sum("from _text import" in source for source in text.values()) >= 2


@pytest.mark.parametrize("path", sorted(FUNCTIONS.glob("*.yaml")), ids=lambda path: path.name)
def test_a_settings_file_sets_valves_that_the_sample_has(path: Path, sample: Any) -> None:
    module = sample(path.stem)
    function = getattr(module, "Pipe", None) or module.Filter
    valves = yaml.safe_load(path.read_text())["valves"]
    assert set(valves) <= set(function.Valves.model_fields)
    function.Valves(**valves)
    assert "#" in path.read_text()


@pytest.mark.parametrize(
    ("content", "answer"),
    [("hello", "hello"), ([{"type": "text", "text": "a"}, {"type": "image_url"}], "a"), (None, ""), ("", "")],
)
def test_echo_answers_with_what_you_said(sample: Any, content: Any, answer: str) -> None:
    assert asyncio.run(sample("echo").Pipe().pipe(body(content))) == answer


def test_echo_of_nothing_is_nothing(sample: Any) -> None:
    assert asyncio.run(sample("echo").Pipe().pipe({"messages": []})) == ""


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 * (4 + 5) ** 2", "243"),
        ("sqrt(2)/2 =", "0.7071067812"),
        ("2^10\n\n7 // 2", "1024\n3"),
        ("1/0", "1/0: division by zero"),
        ("9**9**9", "9**9**9: the result is too large"),
        ("(-8) ** 0.5", "(-8) ** 0.5: the result is not a real number"),
        ("__import__('os')", "__import__('os'): I do not understand \"__import__('os')\""),
        ("().__class__", "().__class__: I do not understand '().__class__'"),
        ("hello there", "hello there: this is not an arithmetic expression"),
        ("", "Send me an expression, for example `3 * (4 + 5) ** 2`."),
    ],
)
def test_the_calculator_works_out_arithmetic_and_nothing_else(sample: Any, text: str, answer: str) -> None:
    assert sample("calc").Pipe().pipe(body(text)) == answer


def test_the_text_tools_are_models_of_their_own(sample: Any) -> None:
    pipe = sample("text").Pipe()
    assert [entry["id"] for entry in pipe.pipes()] == ["upper", "slug", "wordcount"]
    assert all(entry["name"] for entry in pipe.pipes())
    assert pipe.pipe(body("straße", "text.upper")) == "STRASSE"
    assert pipe.pipe(body("Crème brûlée, twice!", "text.slug")) == "creme-brulee-twice"
    count = pipe.pipe(body("one two\ntwo three three THREE", "text.wordcount"))
    assert count.splitlines() == ["6 words, 29 characters, 2 lines, 1 min to read", "3 × three", "2 × two", "1 × one"]
    with pytest.raises(ValueError, match="no text tool named lower"):
        pipe.pipe(body("x", "text.lower"))


def outlined(module: ModuleType, text: str, user: dict[str, Any] | None = None) -> tuple[str, list[str]]:
    """What the outline pipe streams, joined, and the statuses it sends meanwhile."""
    pipe = module.Pipe()
    pipe.valves = pipe.Valves(delay=0)
    statuses: list[str] = []

    async def emit(event: dict[str, Any]) -> None:
        assert event["type"] == "status"
        statuses.append(event["data"]["description"])

    async def collect() -> list[str]:
        return [item async for item in pipe.pipe(body(text), __user__=user or {}, __event_emitter__=emit)]

    return "".join(asyncio.run(collect())), statuses


def test_the_outline_streams_headings_by_their_level(sample: Any) -> None:
    text = "## Start\nwords\n### Detail ###\n```\n# no heading\n```\n## End\n"
    told, statuses = outlined(sample("outline"), text)
    assert told == "- Start\n  - Detail\n- End\n"
    assert statuses == ["Reading", "Point 1 of 3", "Point 2 of 3", "Point 3 of 3", "Done"]


def test_the_outline_of_plain_paragraphs_is_their_first_sentences(sample: Any) -> None:
    told, _ = outlined(sample("outline"), "It costs 1.5 euro. Really.\n\nSecond one\ngoes on! Yes.\n")
    assert told == "- It costs 1.5 euro.\n- Second one goes on!\n"


def test_the_outline_is_as_long_as_the_user_wants(sample: Any) -> None:
    module = sample("outline")
    user = {"valves": module.Pipe.UserValves(most_points=1)}
    assert outlined(module, "a\n\nb\n\nc", user)[0] == "- a\n… and 2 more\n"


def test_redact_takes_out_addresses_and_card_numbers_both_ways(sample: Any) -> None:
    redact = sample("redact").Filter()
    text = "ada@example.org paid with 4111 1111 1111 1111, order 4111111111111112"
    clean = "[e-mail address removed] paid with [card number removed], order 4111111111111112"
    assert redact.inlet(body(text))["messages"][0]["content"] == clean
    assert redact.outlet(body([{"type": "text", "text": text}]))["messages"][0]["content"][0]["text"] == clean
    assert redact.toggle is True


def test_redact_leaves_what_it_is_told_to_leave(sample: Any) -> None:
    redact = sample("redact").Filter()
    redact.valves = redact.Valves(emails=False, placeholder="***")
    assert redact.redact("a@b.org 4111111111111111") == "a@b.org ***"


def test_contents_puts_a_table_in_front_and_replaces_it_the_next_time(sample: Any) -> None:
    action = sample("contents").Action()
    text = "# One\n## Two\ntext\n## Two\n"
    answer = {"id": "a1", "role": "assistant", "content": text}
    once = asyncio.run(action.action({"messages": [answer], "id": "a1"}))
    content = once["messages"][0]["content"]
    assert once["messages"][0]["id"] == "a1"
    assert content.splitlines()[1:4] == ["- [One](#one)", "  - [Two](#two)", "  - [Two](#two-1)"]
    assert content.endswith(text)
    twice = asyncio.run(action.action({"messages": [{**answer, "content": content}], "id": "a1"}))
    assert twice == once


def test_contents_leaves_short_answers_alone(sample: Any) -> None:
    told: list[Any] = []

    async def emit(event: dict[str, Any]) -> None:
        told.append(event["data"]["content"])

    action = sample("contents").Action()
    short = {"messages": [{"role": "assistant", "content": "# One\n"}]}
    assert asyncio.run(action.action(short, __event_emitter__=emit)) is None
    assert told == ["1 headings: too few for a table of contents"]


def test_the_glossary_explains_terms_from_the_file_beside_it(sample: Any) -> None:
    pipe = sample("glossary").Pipe()
    answer = pipe.pipe(body("Why does a Shared Module have no workers?"))
    assert [line.split("**")[1] for line in answer.split("\n\n")] == ["shared module", "worker"]
    assert pipe.pipe(body("list")).startswith("I know: action, filter,")
    assert pipe.pipe(body("nothing")).startswith("None of my 12 terms")
