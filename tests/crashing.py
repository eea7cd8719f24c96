"""`python -m tests.crashing STEP [rotate]`: serves like `fnsync serve`, or rotates keys like `fnsync secrets rotate`
without a server, and is killed at a step of its first edit, or of the rotation."""

from __future__ import annotations

import os
import signal
import sys

from fnsync import offline
from fnsync.config import load
from fnsync.edits.manager import Terms
from fnsync.edits.rotation import Rotated
from fnsync.launch import run
from fnsync.model import User
from fnsync.service import Listeners, Service


def main(at: str, what: str = "serve") -> None:
    def step(name: str) -> None:
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def rotate(service: Service, admin: User) -> Rotated:
        await service.reconciler.settled()
        return await service.rotation.run(Terms(admin))

    config, listeners = load(None, os.environ), Listeners(step=step)
    if what == "rotate":
        offline.run(config, os.environ, rotate, listeners)
    else:
        run(config, environ=os.environ, listeners=listeners)


if __name__ == "__main__":
    main(*sys.argv[1:])
