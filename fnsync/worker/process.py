"""What a forked worker does before any function code: it gives up what it shares with its zygote."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import sys
from typing import NoReturn

from fnsync.runtime import wire
from fnsync.worker import confine, linux


def run(fork: wire.Fork, parent: int, channel_fd: int, output_fd: int) -> NoReturn:
    """Become a worker and serve its channel; ends the process."""
    status = 1
    try:
        os.setsid()
        linux.die_with_parent(parent)
        reset_signals()
        channel = settle_descriptors(channel_fd, output_fd)
        linux.name_process("fnsync-worker")
        reset_state(fork)
        confine.confine(fork)
        from fnsync.worker import session  # start time: the zygote has it loaded, if it loads at all

        session.serve(channel)
        status = 0
    except BaseException:  # the last place that can say what went wrong: the output goes to the server
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def reset_signals() -> None:
    """Undo what the zygote set."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def settle_descriptors(channel_fd: int, output_fd: int) -> socket.socket:
    """Keep the channel and the output, close all else."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0, inheritable=True)
    os.dup2(output_fd, 1, inheritable=True)
    os.dup2(output_fd, 2, inheritable=True)
    channel = socket.socket(fileno=os.dup(channel_fd))
    keep = channel.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    # A function's own fork must not talk to the server in this worker's name.
    os.register_at_fork(after_in_child=lambda: os.close(keep))
    return channel


def reset_state(fork: wire.Fork) -> None:
    """Have what a fork copies, and should not, made anew."""
    os.environ.clear()
    os.environ.update(fork.environment)
    os.chdir(fork.folder)
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
