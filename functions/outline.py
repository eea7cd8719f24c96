"""
title: Outline
description: Streams an outline of the text you send, by its headings or else by the first sentence of each paragraph.
version: 1.0.0
"""

import asyncio
import re
from collections.abc import AsyncIterator

from _text import first_sentence, headings, last_user_text
from pydantic import BaseModel, Field


class Pipe:
    class Valves(BaseModel):
        delay: float = Field(default=0.02, ge=0, le=2, description="Seconds between two words.")

    class UserValves(BaseModel):
        most_points: int = Field(default=20, ge=1, description="How many points your outlines have at most.")

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def pipe(self, body: dict, __user__: dict, __event_emitter__=None) -> AsyncIterator[str]:
        async def status(description: str, done: bool = False) -> None:
            if __event_emitter__:
                await __event_emitter__({"type": "status", "data": {"description": description, "done": done}})

        await status("Reading")
        points = outline(last_user_text(body.get("messages", [])))
        most = __user__["valves"].most_points if "valves" in __user__ else self.UserValves().most_points
        if not points:
            yield "Send me a text with headings or paragraphs."
        for index, point in enumerate(points[:most], start=1):
            await status(f"Point {index} of {min(most, len(points))}")
            for word in re.findall(r"\s*\S+", point):
                yield word
                await asyncio.sleep(self.valves.delay)
            yield "\n"
        if len(points) > most:
            yield f"… and {len(points) - most} more\n"
        await status("Done", done=True)


def outline(text: str) -> list[str]:
    """The points of a text as lines of a Markdown list, indented by their level."""
    titles = headings(text)
    if titles:
        top = min(level for level, _ in titles)
        return ["  " * (level - top) + f"- {title}" for level, title in titles]
    return [f"- {first_sentence(paragraph)}" for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
