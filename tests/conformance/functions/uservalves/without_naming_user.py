"""Contract 6.3: only if the signature names `__user__`."""
import json

from pydantic import BaseModel


class Pipe:
    class UserValves(BaseModel):
        word: str = "default"

    def pipe(self, body, **kwargs):
        return json.dumps(kwargs)
