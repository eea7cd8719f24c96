"""Projects of a given size: a git working tree with that many functions, all in one commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

#: Chunks of the streaming pipes.
CHUNKS = 200
#: Of the pipe whose streams run side by side.
LONG_CHUNKS = 500
SAMPLES = Path(__file__).resolve().parent.parent / "functions"

CONFIGURATION = "functions: functions\ndata: .fnsync\n"

STREAMING = f'''"""
title: Chunks
"""


class Pipe:
    async def pipe(self, body: dict):
        for number in range({CHUNKS}):
            yield f"word {{number}} "
'''

PLAIN_STREAMING = STREAMING.replace("async def", "def").replace("title: Chunks", "title: Plain chunks")

LONG = STREAMING.replace(f"range({CHUNKS})", f"range({LONG_CHUNKS})").replace("title: Chunks", "title: Long")

#: One of five around each chat.
AROUND = '''"""
title: Around {number}
"""

from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: int = {number}

    def __init__(self):
        self.valves = self.Valves()

    async def inlet(self, body: dict, __metadata__: dict) -> dict:
        __metadata__["around_{number}"] = True
        return body

    async def outlet(self, body: dict) -> dict:
        return body
'''
FILTERS = tuple(f"around_{number}" for number in range(5))

UPPER = '''"""
title: Upper
"""


class Filter:
    async def stream(self, event: dict) -> dict:
        for choice in event["choices"]:
            if choice["delta"].get("content"):
                choice["delta"]["content"] = choice["delta"]["content"].upper()
        return event
'''

#: A filter of the Pipelines protocol.
HOOK = """class Pipeline:
    def __init__(self):
        self.type = "filter"

    async def inlet(self, body: dict, user: dict | None = None) -> dict:
        body["seen_by"] = user["email"]
        return body
"""

#: A pipe that asks another model.
NESTING = """from open_webui.models.users import Users
from open_webui.utils.chat import generate_chat_completion


class Pipe:
    async def pipe(self, body: dict, __user__: dict, __request__):
        user = await Users.get_user_by_id(__user__["id"])
        return await generate_chat_completion(__request__, {**body, "model": "base-model"}, user)
"""

#: The function that is changed while the time is taken.
EDITED = '''"""
title: Edited
description: Answers with the version that it is.
"""

from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        prefix: str = "version"

    def __init__(self):
        self.valves = self.Valves()

    async def pipe(self, body: dict) -> str:
        return f"{{self.valves.prefix}} {version};"
'''

SHARED = '''"""What some of the functions share."""


def last(body: dict) -> str:
    return body["messages"][-1]["content"] if body.get("messages") else ""
'''

ASYNC_PIPE = '''"""
title: Pipe {number}
description: Counts words, scaled. Number {number} of its kind.
version: 1.{number}.0
"""

from pydantic import BaseModel, Field


class Pipe:
    class Valves(BaseModel):
        factor: int = Field(default={number}, description="What the count is multiplied with.")
        label: str = "words"

    def __init__(self):
        self.valves = self.Valves()

    async def pipe(self, body: dict, __user__: dict) -> str:
        words = body["messages"][-1]["content"].split()
        return f"{{len(words) * self.valves.factor}} {{self.valves.label}}"
'''

SYNC_PIPE = '''"""
title: Turn {number}
author: Ada
requirements:
"""

import re

from _shared import last

PATTERN = re.compile(r"\\w{{{width},}}")


class Pipe:
    def pipe(self, body: dict) -> str:
        return " ".join(reversed(PATTERN.findall(last(body)))) + " {number}"
'''

GENERATOR_PIPE = '''"""
---
title: Letters {number}
description: >
  Says it letter by letter.
---
"""

from pydantic import BaseModel

from _shared import last


class Pipe:
    class Valves(BaseModel):
        separator: str = "-"

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body: dict):
        for letter in last(body):
            yield letter + self.valves.separator
        yield "{number}"
'''

MANIFOLD = '''"""
title: Family {number}
"""


class Pipe:
    def __init__(self):
        self.name = "family {number}: "

    def pipes(self):
        return [{{"id": name, "name": name.title()}} for name in ("small", "large")]

    async def pipe(self, body: dict) -> dict:
        return {{"choices": [{{"message": {{"role": "assistant", "content": body["model"]}}}}]}}
'''

FILTER = '''"""
title: Filter {number}
"""

from pydantic import BaseModel, Field


class Filter:
    class Valves(BaseModel):
        priority: int = 0
        limit: int = Field(default={number}, ge=0)

    class UserValves(BaseModel):
        on: bool = True

    def __init__(self):
        self.valves = self.Valves()

    def inlet(self, body: dict, __user__: dict | None = None) -> dict:
        body["messages"] = body["messages"][-self.valves.limit or 1 :]
        return body

    async def outlet(self, body: dict) -> dict:
        return body
'''

#: When the first commit of a history was made, seconds since the epoch.
BEGAN_AT = 1_700_000_000

#: Name and source of each kind; the kinds take turns.
KINDS = (
    ("count", ASYNC_PIPE),
    ("turn", SYNC_PIPE),
    ("letters", GENERATOR_PIPE),
    ("filter", FILTER),
    ("count", ASYNC_PIPE),
    ("turn", SYNC_PIPE),
    ("family", MANIFOLD),
    ("filter", FILTER),
)

SETTINGS = {
    "count": "valves:\n  label: words of {number}\nlimits: {{timeout: 20s}}\n",
    "letters": "valves:\n  separator: _\n",
    "filter": "global: false\nmodels: [echo]\nvalves:\n  limit: 4\n",
}


def word(number: int) -> str:
    """The text of a streaming pipe's chunk."""
    return f"word {number} "


def edited(version: int) -> str:
    """The source of a version of `edited`."""
    return EDITED.replace("{{", "{").replace("}}", "}").replace("{version}", str(version))


class Project:
    """`count` functions under `root`: `only` and generated ones. Their ids are in `pipes`, `filters` apart."""

    def __init__(self, root: Path, count: int, only: tuple[str, ...]) -> None:
        self.root = root
        self.count = count
        self.functions = root / "functions"
        self.data = root / ".fnsync"
        #: Generated pipes that are one model each.
        self.pipes: list[str] = []
        self.functions.mkdir(parents=True)
        (root / "fnsync.yaml").write_text(CONFIGURATION, encoding="utf-8")
        (root / ".gitignore").write_text(".fnsync/\n", encoding="utf-8")
        for name in only:
            self._write(f"{name}.py", named_source(name))
            if name in (*FILTERS, "upper"):
                self._write(f"{name}.yaml", "global: true\n")
        if count > len(only):
            self._write("_shared.py", SHARED)
        for number in range(count - len(only)):
            self._generate(number)
        self._commit()

    def _generate(self, number: int) -> None:
        kind, source = KINDS[number % len(KINDS)]
        id = f"{kind}_{number:04}"
        # Some in a folder of their own, some in folders that only sort.
        folder = f"{id}/main" if number % 10 == 9 else f"team_{number % 7}/{id}" if number % 3 == 0 else id
        self._write(f"{folder}.py", source.format(number=number, width=number % 5 + 1))
        if number % 2 == 0 and kind in SETTINGS:
            self._write(f"{folder}.yaml", SETTINGS[kind].format(number=number))
        if kind in ("count", "turn", "letters"):
            self.pipes.append(id)

    def _write(self, path: str, text: str) -> None:
        file = self.functions / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _commit(self) -> None:
        git(self.root, "init", "--quiet")
        as_author(self.root)
        git(self.root, "add", ".")
        git(self.root, "commit", "--quiet", "-m", "Generated")

    def add_history(self, commits: int) -> None:
        """Commit as many changes of one function each, and back at the end to what the functions are now."""
        files = sorted(path for path in self.functions.rglob("*.py") if path.name != "_shared.py")
        git(self.root, "fast-import", "--quiet", "--force", given=_stream(self.root, files, commits))
        git(self.root, "reset", "--quiet", "--hard")
        # As after a clone; else the first edits would be measured while git packs what this has made.
        git(self.root, "gc", "--quiet")

    def save(self, name: str, text: str) -> None:
        """Write a source as an editor does: beside it, then renamed over it."""
        fresh = self.functions / f".{name}.py.tmp"
        fresh.write_text(text, encoding="utf-8")
        fresh.rename(self.functions / f"{name}.py")

    def forget(self) -> None:
        """Remove all that servers keep."""
        shutil.rmtree(self.data, ignore_errors=True)


def _stream(root: Path, files: list[Path], commits: int) -> str:
    """A stream for `git fast-import` that adds to the checked-out branch."""
    branch, tip = (git(root, *arguments) for arguments in (("symbolic-ref", "HEAD"), ("rev-parse", "HEAD")))
    lines = []
    for number in range(commits):
        file = files[number % len(files)]
        text = file.read_text(encoding="utf-8")
        if number < commits - len(files):
            text += f"# change {number}\n"
        lines.append(f"commit {branch}\ncommitter Ada <ada@example.org> {BEGAN_AT + number * 60} +0000\n")
        lines.append("data 7\nChange\n" + ("" if number else f"from {tip}\n"))
        lines.append(f"M 100644 inline {file.relative_to(root)}\ndata {len(text.encode())}\n{text}\n")
    return "".join(lines)


def as_author(folder: Path) -> None:
    """Configure who commits in a repository."""
    for name, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        git(folder, "config", name, value)


def git(folder: Path, *arguments: str, given: str | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, input=given, text=True, stdout=subprocess.PIPE, check=True)
    return done.stdout.strip()


def named_source(name: str) -> str:
    """The source of a function that the measurements call by name."""
    if name == "echo":
        return (SAMPLES / "echo.py").read_text(encoding="utf-8")
    if name in FILTERS:
        return AROUND.format(number=FILTERS.index(name))
    sources = {
        "hook": HOOK,
        "nesting": NESTING,
        "chunks": STREAMING,
        "plain_chunks": PLAIN_STREAMING,
        "long": LONG,
        "upper": UPPER,
        "edited": edited(0),
    }
    return sources[name]
