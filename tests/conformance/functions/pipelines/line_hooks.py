"""Contract 10.2: `on_startup` and `on_valves_updated`."""
from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        word: str = "default"
        number: int = 1

    def __init__(self):
        self.name = "Hooks"
        self.valves = self.Valves(number=5)
        self.seen = ["init"]

    async def on_startup(self):
        self.seen.append("startup")

    async def on_shutdown(self):
        pass

    async def on_valves_updated(self):
        self.seen.append(f"updated {self.valves.word} {self.valves.number}")

    def pipe(self, user_message, model_id, messages, body):
        return ", ".join(self.seen)
