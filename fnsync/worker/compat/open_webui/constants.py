"""Of `open_webui.constants`: the names of tasks."""

from __future__ import annotations

from enum import StrEnum


class TASKS(StrEnum):
    """What a completion is for, besides answering; compared with `__task__`, which is plain text."""

    TITLE_GENERATION = "title_generation"
    FOLLOW_UP_GENERATION = "follow_up_generation"
    TAGS_GENERATION = "tags_generation"
    EMOJI_GENERATION = "emoji_generation"
    QUERY_GENERATION = "query_generation"
    IMAGE_PROMPT_GENERATION = "image_prompt_generation"
    AUTOCOMPLETE_GENERATION = "autocomplete_generation"
    FUNCTION_CALLING = "function_calling"
    MOA_RESPONSE_GENERATION = "moa_response_generation"

    @staticmethod
    def DEFAULT(task: str = "") -> str:
        """The name of a task of another kind."""
        return task or "generation"
