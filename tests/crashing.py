"""`python -m tests.crashing STEP`: serves like `fnsync serve`, and is killed at a step of its first edit."""

from __future__ import annotations

import os
import signal
import sys

from fnsync.config import load
from fnsync.launch import run
from fnsync.service import Listeners


def main(at: str) -> None:
    def step(name: str) -> None:
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(load(None, os.environ), environ=os.environ, listeners=Listeners(step=step))


if __name__ == "__main__":
    main(sys.argv[1])
