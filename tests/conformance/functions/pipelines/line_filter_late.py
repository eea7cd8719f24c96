"""Contract 10.2: `valves.pipelines` names the targets, `valves.priority` the order."""
from typing import List, Optional

from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        pipelines: List[str] = []
        priority: int = 0

    def __init__(self):
        self.type = "filter"
        self.name = "Late"
        self.valves = self.Valves(pipelines=["line_target"], priority=2)

    async def inlet(self, body: dict, user: Optional[dict] = None) -> dict:
        body["messages"][-1]["content"] += " late"
        return body

    async def outlet(self, body: dict, user: Optional[dict] = None) -> dict:
        body["messages"][-1]["content"] += " | late"
        return body
