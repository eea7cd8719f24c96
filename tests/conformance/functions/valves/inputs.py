"""Contract 6.4: how fields are shown."""
from typing import Literal

from pydantic import BaseModel, Field


class Pipe:
    class Valves(BaseModel):
        key: str = Field(default="", json_schema_extra={"input": {"type": "password"}})
        size: str = Field(default="s", json_schema_extra={"input": {"type": "select", "options": ["s", "l"]}})
        model: str = Field(default="", json_schema_extra={"input": {"type": "select", "options": "models"}})
        many: list = Field(default=[], json_schema_extra={"input": {"type": "multiselect", "options": "users"}})
        late: str = Field(default="", json_schema_extra={"input": {"type": "select", "options": "later"}})
        gone: str = Field(default="", json_schema_extra={"input": {"type": "select", "options": "not_there"}})
        fails: str = Field(default="", json_schema_extra={"input": {"type": "select", "options": "raises"}})
        odd: str = Field(default="", json_schema_extra={"input": {"type": "select", "options": "no_list"}})
        text: str = Field(default="", json_schema_extra={"input": {"type": "textarea"}})
        mode: Literal["fast", "good"] = "fast"

        @classmethod
        def models(cls):
            return ["a", {"value": "b", "label": "B"}]

        @staticmethod
        def users(__user__=None, user=None):
            return [__user__["email"], user["email"]]

        @classmethod
        async def later(cls):
            return ["x"]

        @classmethod
        def raises(cls):
            raise RuntimeError("no options")

        @classmethod
        def no_list(cls):
            return "a text"

    def pipe(self, body):
        return "ok"
