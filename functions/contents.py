"""
title: Table of contents
description: Puts a linked table of contents in front of a long answer.
version: 1.0.0
"""

from _text import content_text, headings, slug
from pydantic import BaseModel, Field

#: Where a table that this action made begins and ends, so that a second click replaces it.
BEGIN, END = "<!-- contents -->", "<!-- /contents -->"


class Action:
    class Valves(BaseModel):
        least_headings: int = Field(default=3, ge=1, description="Answers with fewer headings are left as they are.")

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def action(self, body: dict, __event_emitter__=None) -> dict | None:
        message = find_message(body)
        if message is None:
            return None
        text = without_contents(content_text(message.get("content")))
        table = contents(text)
        if len(table) < self.valves.least_headings:
            if __event_emitter__:
                data = {"type": "info", "content": f"{len(table)} headings: too few for a table of contents"}
                await __event_emitter__({"type": "notification", "data": data})
            return None
        fresh = "\n".join([BEGIN, *table, END, "", text])
        return {"messages": [{"id": message.get("id"), "content": fresh}]}


def find_message(body: dict) -> dict | None:
    """The message whose button was pressed, else the newest answer."""
    messages = body.get("messages", [])
    pressed = [message for message in messages if body.get("id") and message.get("id") == body["id"]]
    answers = [message for message in messages if message.get("role") == "assistant"]
    return (pressed or answers[-1:] or [None])[0]


def contents(markdown: str) -> list[str]:
    """The lines of a Markdown list that links to each heading; repeated headings get a number, as usual."""
    titles = headings(markdown)
    top = min((level for level, _ in titles), default=1)
    seen: dict[str, int] = {}
    lines = []
    for level, title in titles:
        anchor = slug(title)
        count = seen[anchor] = seen.get(anchor, -1) + 1
        lines.append("  " * (level - top) + f"- [{title}](#{anchor}{f'-{count}' if count else ''})")
    return lines


def without_contents(text: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + after.lstrip("\n") if begin and end else text
