"""What a forked worker does before any function code: it gives up what it shares with its zygote."""

from __future__ import annotations

import faulthandler
import os
import random
import resource
import signal
import socket
import sys
import traceback
from typing import NoReturn

import msgspec

from fnsync.runtime import wire
from fnsync.worker import confine, linux

#: Above what one Fork takes, in bytes: an environment of a few hundred variables.
MESSAGE_BYTES = 256 * 1024


def run(parent: int, door: socket.socket) -> NoReturn:
    """Wait until the zygote sends what this worker is for, then serve; ends the process."""
    status = 1
    try:
        os.setsid()
        linux.die_with_parent(parent)
        reset_signals()
        linux.name_process("fnsync-spare")
        keep_only(door.fileno())
        data, descriptors, _, _ = socket.recv_fds(door, MESSAGE_BYTES, 2)
        if data:
            become_worker(msgspec.msgpack.decode(data, type=wire.Fork), *descriptors)
        status = 0
    except BaseException:  # the last place that can say what went wrong: the output goes to the server
        traceback.print_exc()
    finally:
        os._exit(status)


def become_worker(fork: wire.Fork, channel_fd: int, output_fd: int) -> None:
    """Take what the server gave, give up all else, and serve until the server is gone."""
    linux.name_process("fnsync-worker")
    channel = settle_descriptors(channel_fd, output_fd)
    faulthandler.enable(file=2, all_threads=False)
    reset_state(fork)
    confine.confine(fork)
    from fnsync.worker import session  # start time: the zygote has it loaded, if it loads at all

    session.serve(channel)


def reset_signals() -> None:
    """Undo what the zygote set."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def keep_only(descriptor: int) -> None:
    """Close all that the zygote had open but the standard streams and `descriptor`."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def settle_descriptors(channel_fd: int, output_fd: int) -> socket.socket:
    """Keep the channel and the output, close all else."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0, inheritable=True)
    os.dup2(output_fd, 1, inheritable=True)
    os.dup2(output_fd, 2, inheritable=True)
    channel = socket.socket(fileno=os.dup(channel_fd))
    keep = channel.fileno()
    keep_only(keep)
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
