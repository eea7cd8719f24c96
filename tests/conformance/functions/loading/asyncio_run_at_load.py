"""Contract 1.7: `asyncio.run` does not work while a file is loaded."""
import asyncio


async def work():
    return 1


coroutine = work()
try:
    asyncio.run(coroutine)
    RAN = "ran"
except RuntimeError:
    coroutine.close()
    RAN = "RuntimeError"


class Pipe:
    def pipe(self, body):
        return RAN
