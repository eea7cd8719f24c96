"""Contract 6.3: `__user__["valves"]` is an object of UserValves."""
import json

from pydantic import BaseModel


class Pipe:
    class UserValves(BaseModel):
        word: str = "default"
        count: int = 0

    async def pipe(self, body, __user__):
        valves = __user__["valves"]
        return json.dumps([type(valves).__name__, valves.word, valves.count])
