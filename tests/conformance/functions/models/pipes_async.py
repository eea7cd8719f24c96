"""Contract 2.1: `pipes` as a coroutine function."""
import asyncio


class Pipe:
    async def pipes(self):
        await asyncio.sleep(0)
        return [{"id": "one", "name": "One"}]

    def pipe(self, body):
        return body["model"]
