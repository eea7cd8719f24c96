"""The terms and where they occur in a text."""

import json
import re
from pathlib import Path


class Glossary:
    def __init__(self, terms: dict[str, str]) -> None:
        self._terms = terms
        # The longest first, so that "shared module" is found before "module".
        names = sorted(map(re.escape, terms), key=len, reverse=True)
        self._pattern = re.compile(rf"\b({'|'.join(names)})(?:s|es)?\b", re.IGNORECASE)

    @classmethod
    def beside(cls, file: str) -> "Glossary":
        """The glossary of the `terms.json` in the same folder as `file`."""
        return cls(json.loads(Path(file).with_name("terms.json").read_text(encoding="utf-8")))

    def names(self) -> list[str]:
        return sorted(self._terms)

    def mentioned(self, text: str) -> dict[str, str]:
        """The terms that `text` mentions, in their order of appearance, with their meanings."""
        found = (match[1].lower() for match in self._pattern.finditer(text))
        return {term: self._terms[term] for term in dict.fromkeys(found)}
