"""
title: Parts
"""
from pydantic import BaseModel


class Action:
    class Valves(BaseModel):
        priority: int = 7

    def __init__(self):
        self.valves = self.Valves()
        self.icon_url = "data:image/svg+xml;base64,CCCC"
        self.actions = [
            {"id": "one", "name": "Part one"},
            {"id": "two", "icon_url": "data:image/svg+xml;base64,DDDD"},
        ]

    def action(self, body, __id__):
        return __id__
