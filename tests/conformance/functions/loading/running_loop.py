"""Contract 1.7: exec and `__init__` run inside the running loop's thread."""
import asyncio

LOOP = asyncio.get_running_loop()


async def later():
    return "made at load"


class Pipe:
    def __init__(self):
        self.task = asyncio.get_running_loop().create_task(later())

    async def pipe(self, body):
        assert asyncio.get_running_loop() is LOOP
        return await self.task
