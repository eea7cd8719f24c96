"""`blueprints.function_calling_blueprint` of a Pipelines server: a filter that has a model choose a tool to call.

A subclass sets `tools` to an object with methods. For each request the task model is told of them; the one that it
names is called, and its result put in front of the system message.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from typing import Any

import requests
from pydantic import BaseModel

from fnsync.worker.pipelines.modules.main import add_or_update_system_message, get_last_user_message, get_tools_specs

#: How many of the last messages the task model is shown.
SHOWN_MESSAGES = 4
#: How long the task model may take, in seconds.
PATIENCE_S = 60.0

DEFAULT_SYSTEM_PROMPT = """You choose tools. These are the tools there are, with their parameters:
{}

If one of them helps to answer the query, reply with one JSON object and nothing else, of the form
{{"name": "<the tool>", "parameters": {{"<parameter>": "<value>"}}}}. If none does, reply with an empty text."""

_TEMPLATE = """Answer with the help of this context:
<context>
{{CONTEXT}}
</context>
Do not mention the context, and say so where it does not hold the answer."""

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


class Pipeline:
    class Valves(BaseModel):
        pipelines: list[str] = []
        priority: int = 0
        OPENAI_API_BASE_URL: str = "https://api.openai.com/v1"
        OPENAI_API_KEY: str = ""
        TASK_MODEL: str = "gpt-3.5-turbo"
        TEMPLATE: str = _TEMPLATE

    def __init__(self, prompt: str | None = None) -> None:
        self.type = "filter"
        self.name = "Function calling"
        self.prompt = prompt or DEFAULT_SYSTEM_PROMPT
        self.tools: object = None
        names = ("OPENAI_API_BASE_URL", "OPENAI_API_KEY", "TASK_MODEL")
        given: dict[str, Any] = {name: os.environ[name] for name in names if name in os.environ}
        self.valves = self.Valves(**given)

    async def on_startup(self) -> None:
        """For subclasses that call it."""

    async def on_shutdown(self) -> None:
        """For subclasses that call it."""

    async def inlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """Have a tool chosen and called; background tasks go through as they are."""
        if body.get("title") or (body.get("metadata") or {}).get("task"):
            return body
        messages = body["messages"]
        shown = "\n".join(f"{message['role']}: {message['content']!r}" for message in messages[-SHOWN_MESSAGES:])
        prompt = self.prompt.format(json.dumps(get_tools_specs(self.tools), indent=2))
        chosen = self.run_completion(prompt, f"History:\n{shown}\nQuery: {get_last_user_message(messages)}")
        called = self.call_function(chosen, messages)
        return {**body, "messages": await called if inspect.isawaitable(called) else called}

    def run_completion(self, system_prompt: str, content: str) -> dict[str, Any]:
        """What the task model answers, as an object; empty where it names no tool."""
        answer = requests.post(
            f"{self.valves.OPENAI_API_BASE_URL.rstrip('/')}/chat/completions",
            headers={"Authorization": f"Bearer {self.valves.OPENAI_API_KEY}"},
            json={
                "model": self.valves.TASK_MODEL,
                "messages": [{"role": "system", "content": system_prompt}, {"role": "user", "content": content}],
            },
            timeout=PATIENCE_S,
        )
        answer.raise_for_status()
        found = _OBJECT.search(answer.json()["choices"][0]["message"]["content"] or "")
        try:
            chosen = json.loads(found[0]) if found else {}
        except ValueError:
            return {}
        return chosen if isinstance(chosen, dict) else {}

    def call_function(self, result: dict[str, Any], messages: list[dict[str, Any]]) -> Any:
        """The messages with what the tool gave in front; as they are where none was chosen."""
        name = result.get("name")
        tool = getattr(self.tools, name, None) if isinstance(name, str) and not name.startswith("_") else None
        if tool is None:
            return messages
        given = tool(**(result.get("parameters") or {}))
        if inspect.isawaitable(given):
            return self._called(given, messages)
        return self._told(given, messages)

    async def _called(self, given: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._told(await given, messages)

    def _told(self, given: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not given:
            return messages
        return add_or_update_system_message(self.valves.TEMPLATE.replace("{{CONTEXT}}", str(given)), messages)
