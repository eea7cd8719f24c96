"""Contract 3.4: a required valve without a value."""
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        key: str

    def inlet(self, body):
        raise AssertionError("never called without its valve")
