"""Packages that a function imports and does not declare."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fnsync.runtime.environments import BASE, BASE_PACKAGES, Environments, RequirementsPolicy
from fnsync.source.packages import PACKAGES
from fnsync.source.reading import Reader
from tests.conftest import Project, Server

PIPE = "class Pipe:\n    def pipe(self, body):\n        pass\n"


def inferred(folder: Path, text: str, name: str = "a.py", **helpers: str) -> tuple[str, ...]:
    """What reading a function tells; helpers lie beside it, by name."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text + PIPE)
    for helper, content in helpers.items():
        (folder / name).with_name(f"{helper}.py").write_text(content)
    unit = Reader(folder).read(name).unit
    assert unit.problem is None, unit.problem
    return unit.frontmatter.inferred


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import bs4\n", ("beautifulsoup4",)),
        ("from PIL import Image\nimport yaml as y, pandas.io\n", ("pandas", "pillow", "pyyaml")),
        ("try:\n    import tiktoken\nexcept ImportError:\n    tiktoken = None\n", ("tiktoken",)),
        ("def late():\n    import orjson\n", ("orjson",)),
        ("import json, httpx, pydantic, unknown_to_all\n", ()),
        ("import google.cloud.storage\n", ("google-cloud-storage",)),
        ("from google.cloud import storage\n", ("google-cloud-storage",)),
        ("from google.cloud import bigquery\nfrom google import genai\nimport azure\n", ("google-genai",)),
        ('"""\nrequirements: beautifulsoup4==4.12, PyJWT\n"""\nimport bs4, jwt, lxml\n', ("lxml",)),
        ('"""\nrequirements: git+https://example.org/x.git\n"""\nimport bs4\n', ("beautifulsoup4",)),
    ],
)
def test_imports_tell_what_is_needed(tmp_path: Path, text: str, found: tuple[str, ...]) -> None:
    assert inferred(tmp_path, text) == found


def test_files_of_the_function_come_first_and_tell_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "_bs4.py").write_text("import lxml\n")
    helpers = {"yaml": "import redis\nfrom . import openai\n", "openai": ""}
    assert inferred(tmp_path, "import yaml, _bs4\n", "f/main.py", **helpers) == ("lxml", "redis")


def test_the_table_names_packages_that_are_not_in_every_environment() -> None:
    names = {module: Requirement(entry).name for module, entry in PACKAGES.items()}
    assert not set(names.values()) & set(BASE_PACKAGES)
    # What is installed here says itself which modules it has.
    here = importlib.metadata.packages_distributions()
    for module, name in names.items():
        if module in here:
            assert name.lower().replace("_", "-") in {one.lower().replace("_", "-") for one in here[module]}, module


def environments(folder: Path, *, infer: bool = True) -> Environments:
    return Environments(folder, RequirementsPolicy(infer=infer), os.environ)


def test_base_does_if_it_happens_to_have_them(tmp_path: Path) -> None:
    found = environments(tmp_path)
    assert found.named((), None, ("pyyaml",)) == BASE
    assert found.named((), None, ("pyotp",)) == found.named(("pyotp",)) != BASE
    assert found.named(("a",), None, ("pyyaml",)) == found.named(("a", "pyyaml"))
    assert found.named((), "<3", ("pyyaml",)) == found.named(("pyyaml",), "<3")
    assert environments(tmp_path, infer=False).named((), None, ("pyotp",)) == BASE


TOTP = "import pyotp\n\nclass Pipe:\n    def pipe(self, body):\n        return pyotp.__name__\n"


def test_a_function_runs_without_declaring_what_it_imports(
    project: Project, start_server: Callable[..., Server]
) -> None:
    server = start_server(project)
    server.add("otp", TOTP)
    with server.client() as client:
        body = {"model": "otp", "messages": [{"role": "user", "content": "?"}]}
        assert client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "pyotp"
    [_, made] = server.status()["environments"]
    assert (made["state"], made["requirements"]) == ("ready", ["pyotp"])


def test_where_that_is_not_wanted_the_error_gives_the_line_to_add(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.configure("policy: {requirements: {infer: false}}\n")
    server = start_server(project)
    failed = server.add("otp", TOTP, status="failed")

    assert "pyotp" in failed["error"]["message"]
    assert "add a line `requirements: pyotp` to the frontmatter" in failed["error"]["hint"]
