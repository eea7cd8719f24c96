"""Contract 10.2: the lowest priority comes first; hooks get body and user by place."""
from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        pipelines: list = []
        priority: int = 0

    def __init__(self):
        self.type = "filter"
        self.name = "Early"
        self.valves = self.Valves(**{"pipelines": ["line_target"], "priority": 1})

    async def inlet(self, the_body, the_user):
        the_body["messages"][-1]["content"] += f" early of {the_user['email']}"
        return the_body

    async def outlet(self, the_body, the_user):
        the_body["messages"][-1]["content"] += " | early"
        return the_body
