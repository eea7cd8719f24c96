"""Of `open_webui.utils.task`: filling in the templates of prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fnsync.worker.compat.open_webui.utils.misc import get_content_from_message, get_last_user_message

_PROMPT = re.compile(r"\{\{prompt(?::(start|end|middletruncate):(\d+))?\}\}")
_MESSAGES = re.compile(r"\{\{MESSAGES(?::(START|END|MIDDLETRUNCATE):(\d+))?(?:\|[^}]*)?\}\}")


def prompt_variables_template(template: str, variables: Mapping[str, Any]) -> str:
    """Put in the values of variables, whose names have their braces with them."""
    for name, value in variables.items():
        template = template.replace(name, str(value))
    return template


def prompt_template(template: str, user: Any = None) -> str:
    """Put in date, time and the user."""
    now = datetime.now()
    info = _get(user, "info")
    place = info.get("location") if isinstance(info, dict) else None
    values = {
        "{{CURRENT_DATE}}": now.strftime("%Y-%m-%d"),
        "{{CURRENT_TIME}}": now.strftime("%I:%M:%S %p"),
        "{{CURRENT_DATETIME}}": now.strftime("%Y-%m-%d %I:%M:%S %p"),
        "{{CURRENT_WEEKDAY}}": now.strftime("%A"),
        "{{USER_NAME}}": _get(user, "name") or "Unknown",
        "{{USER_EMAIL}}": _get(user, "email") or "Unknown",
        "{{USER_BIO}}": _get(user, "bio") or "Unknown",
        "{{USER_GENDER}}": _get(user, "gender") or "Unknown",
        "{{USER_LOCATION}}": place or "Unknown",
    }
    return prompt_variables_template(template, values)


def _get(user: Any, name: str) -> Any:
    return user.get(name) if isinstance(user, Mapping) else getattr(user, name, None)


def replace_prompt_variable(template: str, prompt: str) -> str:
    """Put in the prompt: `{{prompt}}` whole, `{{prompt:start:100}}`, `:end:` or `:middletruncate:` some of it."""

    def part(match: re.Match[str]) -> str:
        size = int(match[2] or 0)
        match match[1]:
            case "start":
                return prompt[:size]
            case "end":
                return prompt[-size:] if size else ""
            case "middletruncate":
                return _without_middle(prompt, size)
        return prompt

    return _PROMPT.sub(part, template)


def _without_middle(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    front = size - size // 2
    return f"{text[:front]}...{text[len(text) - size // 2 :]}"


def replace_messages_variable(template: str, messages: list[dict[str, Any]] | None = None) -> str:
    """Put in the messages as text: `{{MESSAGES}}` all, `{{MESSAGES:START:2}}`, `:END:` or `:MIDDLETRUNCATE:` some."""
    given = messages or []

    def part(match: re.Match[str]) -> str:
        count = int(match[2] or 0)
        match match[1]:
            case "START":
                chosen = given[:count]
            case "END":
                chosen = given[-count:] if count else []
            case "MIDDLETRUNCATE" if len(given) > count:
                chosen = given[: count - count // 2] + given[len(given) - count // 2 :]
            case _:
                chosen = given
        return "\n".join(f"{one['role'].upper()}: {get_content_from_message(one)}" for one in chosen)

    return _MESSAGES.sub(part, template)


def _filled(template: str, messages: list[dict[str, Any]], user: Any) -> str:
    filled = replace_prompt_variable(template, get_last_user_message(messages) or "")
    return prompt_template(replace_messages_variable(filled, messages), user)


def title_generation_template(template: str, messages: list[dict[str, Any]], user: Any = None) -> str:
    """Put in prompt, messages, date and user."""
    return _filled(template, messages, user)


def tags_generation_template(template: str, messages: list[dict[str, Any]], user: Any = None) -> str:
    """Put in prompt, messages, date and user."""
    return _filled(template, messages, user)


def follow_up_generation_template(template: str, messages: list[dict[str, Any]], user: Any = None, **_: Any) -> str:
    """Put in prompt, messages, date and user."""
    return _filled(template, messages, user)


def query_generation_template(template: str, messages: list[dict[str, Any]], user: Any = None) -> str:
    """Put in prompt, messages, date and user."""
    return _filled(template, messages, user)


def image_prompt_generation_template(template: str, messages: list[dict[str, Any]], user: Any = None) -> str:
    """Put in prompt, messages, date and user."""
    return _filled(template, messages, user)


def emoji_generation_template(template: str, prompt: str, user: Any = None) -> str:
    """Put in prompt, date and user."""
    return prompt_template(replace_prompt_variable(template, prompt), user)


def moa_response_generation_template(template: str, prompt: str, responses: list[str]) -> str:
    """Put in the prompt and the responses to it."""
    listed = "\n\n".join(f'"""{response}"""' for response in responses)
    return replace_prompt_variable(template, prompt).replace("{{responses}}", listed)


def tools_function_calling_generation_template(template: str, tools_specs: str) -> str:
    """Put in the tools."""
    return template.replace("{{TOOLS}}", tools_specs)
