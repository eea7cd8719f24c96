"""What git needs to get at a repository: credentials from the configuration, for one run of git.

Nothing secret stands on a command line, where everybody on the machine can read it, nor in a git configuration. A
password reaches git through the environment of its process and a credential helper that answers for one server only,
so it goes nowhere else, not even where that server redirects to.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fnsync.configgit import SourceAuth
from fnsync.configvalues import Secret
from fnsync.errors import AccessRefused, ConfigError, FetchFailed
from fnsync.git import addresses, sshaccess
from fnsync.git.addresses import Address
from fnsync.git.githubapp import GithubTokens
from fnsync.git.refusals import refused
from fnsync.git.remote import SILENT, redacted
from fnsync.git.scratch import private_folder

#: A token is the password of a user whom the host does not look at, or wants to be called so.
_USERS = {"bitbucket.org": "x-token-auth", "github.com": "x-access-token"}
_ANY_USER = "oauth2"
_APP_USER = "x-access-token"
_USER, _PASSWORD = "FNSYNC_GIT_USERNAME", "FNSYNC_GIT_PASSWORD"
_ANSWER = f"""printf 'username=%s\\npassword=%s\\n' "${_USER}" "${_PASSWORD}\""""
_HELPER = f'!f() {{ if test "$1" = get; then {_ANSWER}; fi; }}; f'
#: What of `auth` is for which kind of address.
_FOR_HTTP = ("token", "password", "github_app")
_FOR_SSH = ("ssh_key", "known_hosts")


@dataclass(frozen=True, slots=True)
class GitAccess:
    """What one run of git is given beside its arguments. Good while the block of `access` lasts."""

    #: For its environment.
    variables: Mapping[str, str] = field(default_factory=lambda: dict(SILENT), repr=False)
    #: `-c`, `key=value`, …; before the command.
    options: tuple[str, ...] = ()
    #: What must not be shown.
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def redacted(self, text: str, url: str | None = None) -> str:
        """A text without these secrets, and without those of addresses."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return redacted(text, url)


@contextmanager
def access(
    auth: SourceAuth,
    url: str,
    environ: Mapping[str, str],
    scratch: Path,
    *,
    tokens: GithubTokens | None = None,
    write: bool = False,
    named: str = "auth",
) -> Iterator[GitAccess]:
    """What git needs for `url` as long as the block lasts. Blocks: a GitHub App's token is asked for.

    Private keys that have to be in a file of their own are in `scratch` meanwhile, for nobody else to read. `tokens`
    keeps the tokens of GitHub Apps for the next time. `write`: it is to be pushed to. `named`: what `auth` is called in
    errors. Raises ConfigError, which names the key, and FetchFailed where GitHub gives no token. A FetchFailed of the
    block that tells of a refusal goes on as AccessRefused, which names the key that it is about.
    """
    reason = unfit(auth, url)
    if reason is not None:
        raise ConfigError(f"{named}{reason}", hint="see docs/configuration.md, sources")
    address = addresses.parse(url)
    with _refusals(url, auth, named), ExitStack() as stack:
        if address.http:
            yield _over_http(auth, address, environ, stack, tokens or GithubTokens(), write, named)
        elif address.scheme == "ssh":
            folder = stack.enter_context(private_folder(scratch))
            yield _over_ssh(auth, environ, folder, named)
        else:
            yield GitAccess()


def unfit(auth: SourceAuth, url: str) -> str | None:
    """Why these credentials are not for that address, as `.key: reason`; None: they are."""
    address = addresses.parse(url)
    given = [key for key in (*_FOR_HTTP, *_FOR_SSH) if getattr(auth, key) is not None]
    for key in given:
        if key in _FOR_SSH and address.scheme != "ssh":
            return f".{key}: is for ssh, and the url is not of that kind"
        if key in _FOR_HTTP and not address.http:
            return f".{key}: is for https, and the url is not of that kind"
        if key in _FOR_HTTP and not address.private:
            return f".{key}: is only sent over https: with http everybody on the way to {address.host} could read it"
    if auth.username is not None and not auth.username.isprintable():
        return ".username: must be one line of text"
    if auth.github_app is not None and not addresses.parse(auth.github_app.api).private:
        return ".github_app.api: must be https: with http everybody on the way could read what is sent there"
    return None


@contextmanager
def _refusals(url: str, auth: SourceAuth, named: str) -> Iterator[None]:
    try:
        yield
    except FetchFailed as exc:
        found = None if isinstance(exc, AccessRefused) else refused(exc.message, url, auth, named)
        if found is None:
            raise
        raise found from exc


def _over_http(
    auth: SourceAuth,
    address: Address,
    environ: Mapping[str, str],
    stack: ExitStack,
    tokens: GithubTokens,
    write: bool,
    named: str,
) -> GitAccess:
    if auth.github_app is not None:
        token = stack.enter_context(_app_token(tokens, auth, environ, write, named))
        return _with_password(address, _APP_USER, token)
    if auth.token is not None:
        user = auth.username or address.user or _USERS.get(address.host.lower(), _ANY_USER)
        return _with_password(address, user, _one_line(auth.token, environ, f"{named}.token"))
    if auth.password is not None:
        assert auth.username is not None
        return _with_password(address, auth.username, _one_line(auth.password, environ, f"{named}.password"))
    options = ("-c", f"credential.username={auth.username}") if auth.username is not None else ()
    return GitAccess(options=options)


@contextmanager
def _app_token(
    tokens: GithubTokens, auth: SourceAuth, environ: Mapping[str, str], write: bool, named: str
) -> Iterator[str]:
    assert auth.github_app is not None
    token = tokens.token(auth.github_app, environ, write=write, named=f"{named}.github_app")
    try:
        yield token
    except FetchFailed:  # it was revoked, perhaps: the next try gets another one
        tokens.forget(token)
        raise


def _with_password(address: Address, user: str, password: str) -> GitAccess:
    # What helpers the operator has are not asked, nor told.
    options = ("-c", "credential.helper=", "-c", f"credential.{address.origin}.helper={_HELPER}")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    secrets = frozenset({password, quote(password, safe=""), basic})
    # Traces of HTTP would show what is sent.
    variables = {**SILENT, _USER: user, _PASSWORD: password, "GIT_TRACE_REDACT": "1", "GIT_TRACE_CURL": "0"}
    return GitAccess(variables, options, secrets)


def _over_ssh(auth: SourceAuth, environ: Mapping[str, str], folder: Path, named: str) -> GitAccess:
    if auth.ssh_key is None and auth.known_hosts is None:
        return GitAccess()
    key = None
    if auth.ssh_key is not None:
        with _named(f"{named}.ssh_key"):
            key = sshaccess.usable_key(auth.ssh_key.value(environ), auth.ssh_key.file, folder)
    with _named(f"{named}.known_hosts"):
        command = sshaccess.command(key, auth.known_hosts)
    return GitAccess({**SILENT, "GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"})


def _one_line(secret: Secret, environ: Mapping[str, str], named: str) -> str:
    with _named(named):
        value = secret.value(environ).strip()
        if not value or any(ord(character) < ord(" ") for character in value):
            raise ConfigError("must be one line of text")
    return value


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Errors of the block say which key of the configuration they are about."""
    try:
        yield
    except ConfigError as exc:
        raise ConfigError(f"{key}: {exc.message}", hint=exc.hint) from exc
