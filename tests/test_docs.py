"""The documentation has every command, option, exit code and key that there is, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from fnsync.cli import exits
from fnsync.cli.main import app
from fnsync.config import Config, _is_list, _section_in
from fnsync.configgit import Windows
from fnsync.configvalues import Secret, Section

ROOT = Path(__file__).parents[1]


def command_names() -> list[str]:
    group = typer.main.get_command(app)
    names = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        names.append(name)
        names += [f"{name} {inner}" for inner in getattr(command, "commands", {})]
    return names


def test_every_command_and_option_is_documented() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    for name in command_names():
        assert re.search(rf"^( {{4}}|## )fnsync {name}\b", text, re.MULTILINE), f"docs/cli.md lacks fnsync {name}"
    group = typer.main.get_command(app)
    for command in group.commands.values():  # type: ignore[attr-defined]
        for one in [command, *getattr(command, "commands", {}).values()]:
            for option in one.params:
                long = next((text for text in option.opts if text.startswith("--")), None)
                assert long is None or long in text, f"docs/cli.md lacks {long} of fnsync {one.name}"


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    codes = {name: value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert codes
    for name, value in codes.items():
        assert f"| {value} | `{name}` |" in text, f"docs/cli.md lacks exit code {value}, {name}"


def configuration_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is None or inner in (Secret, Windows):
            yield prefix + name
        else:
            yield from configuration_keys(
                inner, f"{prefix}{name}[]." if _is_list(prefix + name) else f"{prefix}{name}."
            )


@pytest.mark.parametrize("key", list(configuration_keys(Config)))
def test_every_key_is_documented(key: str) -> None:
    assert f"| `{key}` |" in (ROOT / "docs/configuration.md").read_text(), f"docs/configuration.md lacks {key}"


def test_no_documented_key_is_gone() -> None:
    rows = re.findall(r"^\| `([a-z_.\[\]]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    assert set(rows) == set(configuration_keys(Config))


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}, which is not there"
