"""Exit codes, for scripts; docs/cli.md lists them."""

from __future__ import annotations

from fnsync.errors import ConfigError, FnsyncError, NotFound, Unauthorized

#: Done.
OK = 0
#: The thing itself failed: a function raised, a check of doctor found something missing.
FAILED = 1
#: The command line, fnsync.yaml or a FNSYNC_ variable is wrong, or names a port that is taken.
USAGE = 2
#: No server can be reached.
NO_SERVER = 3
#: There is no token, or the server does not accept it for this.
UNAUTHORIZED = 4
#: There is no such function, model, user, token, source or ref.
NOT_FOUND = 5
#: A plan was made, and something of it would not go live.
WOULD_FAIL = 6
#: Ended with Ctrl-C, as shells count it.
INTERRUPTED = 130


class NoServer(FnsyncError):
    """No server runs for this configuration, or it does not answer."""

    code = "no_server"


#: The first class that fits decides.
_CODES: tuple[tuple[type[FnsyncError], int], ...] = (
    (ConfigError, USAGE),
    (NoServer, NO_SERVER),
    (Unauthorized, UNAUTHORIZED),
    (NotFound, NOT_FOUND),
)


def exit_code(error: FnsyncError) -> int:
    """Return the code that a run ends with because of `error`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
