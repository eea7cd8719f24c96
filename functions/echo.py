"""
title: Echo
description: Answers with what you said. The shortest useful pipe, and the one the benchmark calls.
version: 1.0.0
"""


class Pipe:
    async def pipe(self, body: dict) -> str:
        content = body["messages"][-1]["content"] if body.get("messages") else ""
        if isinstance(content, str):
            return content
        return " ".join(part["text"] for part in content or () if part.get("type") == "text")
