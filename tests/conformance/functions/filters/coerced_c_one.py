from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: int = 1

    def inlet(self, body):
        body.setdefault("trace", []).append("one")
        return body
