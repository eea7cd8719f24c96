"""
---
title: Glossary
description: >
  Explains the terms in your message, or all it knows when you ask for "list".
version: 1.0.0
---
"""

# A function that is a folder: main.py is its source, and what lies beside it belongs to it. A change of any of
# these files makes a new revision.

from _text import last_user_text
from terms import Glossary


class Pipe:
    def __init__(self) -> None:
        self.glossary = Glossary.beside(__file__)

    def pipe(self, body: dict) -> str:
        text = last_user_text(body.get("messages", []))
        if text.strip().lower() in ("", "list"):
            return "I know: " + ", ".join(self.glossary.names())
        found = self.glossary.mentioned(text)
        if not found:
            return f"None of my {len(self.glossary.names())} terms is in there. Ask for `list` to see them."
        return "\n\n".join(f"**{term}**: {meaning}" for term, meaning in found.items())
