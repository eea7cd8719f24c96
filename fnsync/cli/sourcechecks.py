"""What `fnsync doctor` finds of sources: whether their credentials, keys and programs are there. Never a secret."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from fnsync.cli.checks import Finding
from fnsync.config import Config
from fnsync.configgit import SourceAuth, SourceConfig
from fnsync.configvalues import Secret
from fnsync.errors import ConfigError
from fnsync.git import addresses, sshaccess, sshkeys
from fnsync.git.access import unfit
from fnsync.git.remote import redacted

_READABLE_BY_OTHERS = 0o077


def sources(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """A finding for each source, or several where something is wrong with it."""
    return [finding for source in config.sources for finding in _source(source, environ)]


def _source(source: SourceConfig, environ: Mapping[str, str]) -> list[Finding]:
    name = f"source {source.name}"
    wrong = [*_access(name, source, environ), *_keys(name, source), *_programs(name, source)]
    return wrong or [Finding(name, "ok", _told(source))]


def _told(source: SourceConfig) -> str:
    given = [key for key in _SECRETS if getattr(source.auth, key) is not None]
    verified = ", signatures are checked" if source.verify.ssh or source.verify.gpg else ""
    return f"{redacted(source.url, source.url)}, with {given[0] if given else 'what git is set up with'}{verified}"


_SECRETS = ("token", "password", "ssh_key", "github_app")


def _access(name: str, source: SourceConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    auth = source.auth
    if reason := unfit(auth, source.url):
        yield Finding(name, "missing", f"auth{reason}", "see docs/configuration.md, sources")
    for key, secret in _secrets(auth):
        yield from _secret(name, key, secret, environ)
    if auth.known_hosts is not None:
        try:
            sshaccess.command(None, auth.known_hosts)
        except ConfigError as exc:
            yield Finding(name, "missing", f"auth.known_hosts: {exc.message}", exc.hint)


def _secrets(auth: SourceAuth) -> Iterator[tuple[str, Secret]]:
    for key in ("token", "password", "ssh_key"):
        secret = getattr(auth, key)
        if secret is not None:
            yield f"auth.{key}", secret
    if auth.github_app is not None:
        yield "auth.github_app.key", auth.github_app.key


def _secret(name: str, key: str, secret: Secret, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        text = secret.value(environ)
        if key == "auth.ssh_key":
            sshaccess.clean_key(text)
    except ConfigError as exc:
        # The server may have variables that a shell has not.
        absent = secret.env is not None and not environ.get(secret.env)
        yield Finding(name, "warning" if absent else "missing", f"{key}: {exc.message}", exc.hint)
        return
    if secret.file is not None and secret.file.stat().st_mode & _READABLE_BY_OTHERS:
        yield Finding(name, "warning", f"{key}: others can read {secret.file}", f"chmod 600 {secret.file}")


def _keys(name: str, source: SourceConfig) -> Iterator[Finding]:
    try:
        sshkeys.read_keys(source.verify.ssh, "verify.ssh")
    except ConfigError as exc:
        yield Finding(name, "missing", exc.message, exc.hint)
    for file in source.verify.gpg:
        if not file.is_file():
            yield Finding(name, "missing", f"verify.gpg: there is no file {file}", "gpg --export --armor KEY > FILE")


def _programs(name: str, source: SourceConfig) -> Iterator[Finding]:
    wanted = {
        "ssh": addresses.parse(source.url).scheme == "ssh",
        "ssh-keygen": bool(source.verify.ssh),
        "gpg": bool(source.verify.gpg),
        "git-lfs": source.lfs,
    }
    for program, needed in wanted.items():
        if needed and shutil.which(program) is None:
            yield Finding(name, "missing", f"{program} is not on the PATH", f"install {program}")
