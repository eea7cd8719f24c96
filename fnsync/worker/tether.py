"""Runs a command that does not outlive its parent: `python -I tether.py PARENT_PID COMMAND …`.

The kernel kills it with the parent, also when the parent is killed itself. Set here and not between fork and
exec of the server, where other threads may hold any lock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the server is gone")
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  an argument list, no shell
