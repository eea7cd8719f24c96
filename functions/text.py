"""
title: Text tools
description: One model per tool. text.upper, text.slug and text.wordcount do to your message what they are named for.
version: 1.0.0
"""

from _text import last_user_text, slug, words
from pydantic import BaseModel, Field

#: Reading speed that people are usually assumed to have.
WORDS_PER_MINUTE = 230


class Pipe:
    class Valves(BaseModel):
        slug_separator: str = Field(default="-", max_length=3, description="What text.slug puts between words.")
        most_frequent: int = Field(default=3, ge=0, le=20, description="How many frequent words text.wordcount names.")

    def __init__(self) -> None:
        self.name = "Text: "
        self.valves = self.Valves()

    def pipes(self) -> list[dict]:
        return [
            {"id": "upper", "name": "upper case"},
            {"id": "slug", "name": "slug"},
            {"id": "wordcount", "name": "word count"},
        ]

    def pipe(self, body: dict) -> str:
        text = last_user_text(body.get("messages", []))
        tool = body["model"].rsplit(".", 1)[-1]
        if tool == "upper":
            return text.upper()
        if tool == "slug":
            return "\n".join(slug(line, self.valves.slug_separator) for line in text.splitlines())
        if tool == "wordcount":
            return self.wordcount(text)
        raise ValueError(f"there is no text tool named {tool}")

    def wordcount(self, text: str) -> str:
        found = words(text)
        counts: dict[str, int] = {}
        for word in found:
            counts[word.lower()] = counts.get(word.lower(), 0) + 1
        minutes = max(1, round(len(found) / WORDS_PER_MINUTE))
        lines = [
            f"{len(found)} words, {len(text)} characters, {len(text.splitlines())} lines, {minutes} min to read",
        ]
        # By count, and among equals in alphabetical order, so that the answer is always the same.
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[: self.valves.most_frequent]
        lines += [f"{counts[word]} × {word}" for word in frequent]
        return "\n".join(lines)
