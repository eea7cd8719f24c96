"""Contract 10.1: modules of the Pipelines server."""
import json
from typing import Generator, Iterator, List, Union

from schemas import OpenAIChatMessage
from utils.pipelines.main import get_last_assistant_message, get_last_user_message, pop_system_message


class Pipeline:
    def __init__(self):
        self.name = "Helpers"

    def pipe(
        self, user_message: str, model_id: str, messages: List[dict], body: dict
    ) -> Union[str, Generator, Iterator]:
        system, rest = pop_system_message(messages)
        checked = OpenAIChatMessage(**rest[-1])
        return json.dumps([system["content"], get_last_user_message(rest), get_last_assistant_message(rest), checked.role])
