"""Lists of requirements as people write them in frontmatter, as PEP 508 strings."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

from packaging.requirements import InvalidRequirement, Requirement

#: What templates and authors write to say that there are none.
_NOTHING = frozenset({"none", "n/a"})
_BRACKETS = {"[": "]", "(": ")", "<": ">", "{": "}"}
#: A comma before one of these goes on with a version specifier.
_OPERATOR = re.compile(r"\s*[<>=!~]")
#: pip's and uv's form without a name; nothing after it but the URL.
_URL = re.compile(r"(?:git|hg|svn|bzr)\+[a-z+]+://\S+|https?://\S+", re.IGNORECASE)


class RequirementError(ValueError):
    """An entry that is no requirement; the message names it."""


def split(text: str) -> tuple[str, ...]:
    """Return the requirements of a comma list. Raises RequirementError that names the bad entry.

    Commas inside extras, version specifiers and markers do not split. Empty entries, `None`, placeholders in brackets
    and modules that come with Python are dropped.
    """
    return unique(checked for entry in _entries(text) for checked in [check(entry)] if checked is not None)


def check(entry: str) -> str | None:
    """Return one requirement, stripped; None if it says that there is none. Raises RequirementError."""
    entry = entry.strip()
    if not entry or entry.lower() in _NOTHING or _is_placeholder(entry) or entry in sys.stdlib_module_names:
        return None
    if entry.startswith("-"):
        option = entry.split()[0].split("=")[0]
        raise RequirementError(f"requirement {shown(entry)}: options such as {option} are not taken, only packages")
    if not _URL.fullmatch(entry):
        try:
            Requirement(entry)
        except InvalidRequirement as exc:
            reason = str(exc).splitlines()[0]
            raise RequirementError(f"requirement {shown(entry)} is not understood: {reason}") from exc
    return entry


def unique(requirements: Iterable[str]) -> tuple[str, ...]:
    """The requirements in order, without repeats."""
    return tuple(dict.fromkeys(requirements))


def shown(entry: str) -> str:
    """An entry for a message, cut to a readable length."""
    return entry if len(entry) <= 80 else entry[:77] + "..."


def _is_placeholder(entry: str) -> bool:
    return _BRACKETS.get(entry[0]) == entry[-1]


def _entries(text: str) -> Iterator[str]:
    """Split at the commas that end an entry."""
    start, depth, end_quote = 0, 0, -1
    for index, char in enumerate(text):
        if index <= end_quote:
            continue
        if char in "\"'":
            # Quotes stand in markers; one that never closes is none.
            end_quote = text.find(char, index + 1)
        elif char in "[({" or (char == "<" and not text[start:index].strip()):
            depth += 1
        elif char in "])}" or (char == ">" and text[start:].lstrip().startswith("<")):
            depth = max(0, depth - 1)
        elif char == "," and depth == 0 and not _OPERATOR.match(text, index + 1):
            yield text[start:index]
            start = index + 1
    yield text[start:]
