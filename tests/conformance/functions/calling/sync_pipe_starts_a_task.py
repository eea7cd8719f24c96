"""Contract 2.2: a sync pipe runs on the event loop, so it may start tasks there."""
import asyncio


async def later():
    return "a task"


class Pipe:
    def __init__(self):
        self.task = None

    def pipe(self, body):
        self.task = asyncio.create_task(later())
        return self.wait()

    async def wait(self):
        while not self.task.done():
            await asyncio.sleep(0)
        return self.task.result()
