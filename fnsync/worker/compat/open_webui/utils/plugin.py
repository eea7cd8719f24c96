"""Of `open_webui.utils.plugin`: the frontmatter of a source."""

from __future__ import annotations

import re

_ENTRY = re.compile(r"\s*([A-Za-z_]+):\s*(.*)\s*")


def extract_frontmatter(content: str) -> dict[str, str]:
    """The `key: value` lines between triple quotes that begin on the first line."""
    lines = content.splitlines()
    found: dict[str, str] = {}
    if not lines or lines[0].strip() != '"""':
        return found
    for line in lines[1:]:
        if '"""' in line:
            break
        if entry := _ENTRY.match(line):
            found[entry[1].strip()] = entry[2].strip()
    return found
