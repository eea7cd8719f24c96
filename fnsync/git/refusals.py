"""What git says when the other side does not let us in, or is not whom we trust: told apart, with the way out."""

from __future__ import annotations

import re
from pathlib import Path

from fnsync.configgit import SourceAuth
from fnsync.errors import AccessRefused
from fnsync.git import addresses
from fnsync.git.addresses import Address
from fnsync.git.remote import redacted

_LOGIN = "the login was refused"
_NO_LOGIN = "a login is asked for, and there is none"
_FORBIDDEN = "access is forbidden"
_NOT_SEEN = "there is no such repository, or it is not for this login"
_HOST_CHANGED = "the host shows another key than the one that is known"
_HOST_UNKNOWN = "the host's key is not known"
_KEY_UNUSABLE = "ssh cannot use the private key"
_CERTIFICATE = "the host's certificate is not trusted"

#: In this order: a changed host key is said to be unverified, too.
_SAID = (
    (re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed"), _HOST_CHANGED),
    (re.compile(r"Host key verification failed|No \S+ host key is known for"), _HOST_UNKNOWN),
    (re.compile(r"Load key .*: (invalid format|error in libcrypto|bad permissions|Permission denied)"), _KEY_UNUSABLE),
    (re.compile(r"Permission denied \(|Too many authentication failures"), _LOGIN),
    (re.compile(r"could not read (Username|Password) for"), _NO_LOGIN),
    (re.compile(r"Authentication failed for|requested URL returned error: 401"), _LOGIN),
    (
        re.compile(r"requested URL returned error: 403|ERROR: Permission to \S+ denied|epository access denied"),
        _FORBIDDEN,
    ),
    (re.compile(r"repository '[^']*' not found|requested URL returned error: 404"), _NOT_SEEN),
    # What GitHub, GitLab and Gitea say over ssh.
    (re.compile(r"ERROR: Repository not found|The project you were looking for|Cannot find repository"), _NOT_SEEN),
    (
        re.compile(r"SSL certificate problem|certificate verification failed|SSL: no alternative certificate"),
        _CERTIFICATE,
    ),
)


def refusal(said: str) -> str | None:
    """Why the other side did not let us in, or we did not trust it; None: it was something else that git told."""
    return next((reason for pattern, reason in _SAID if pattern.search(said)), None)


def refused(said: str, url: str, auth: SourceAuth, named: str = "auth") -> AccessRefused | None:
    """The error for a refusal, with the key of the configuration it is about; None: git told something else.

    `said` has to be free of secrets already.
    """
    reason = refusal(said)
    if reason is None:
        return None
    address = addresses.parse(url)
    told = f"{redacted(url, url)}: {reason}"
    if reason == _CERTIFICATE:
        return AccessRefused(f"{told}: {said}", hint="GIT_SSL_CAINFO, or git's http.sslCAInfo, names a file of CAs")
    if reason in (_HOST_CHANGED, _HOST_UNKNOWN):
        return AccessRefused(f"{told} ({_file(auth.known_hosts, address)})", hint=_keyscan(auth, address, reason))
    key = _key(auth)
    if key is None:
        return AccessRefused(told, hint=f"set {named}, or set up git for it, as the server's user")
    if reason == _KEY_UNUSABLE:
        told = f"{told}: {said}"
    return AccessRefused(f"{told} ({named}.{key})", hint=_HINTS[key])


_HINTS = {
    "token": "see whether the token is right, has not ended, and may read the repository; some hosts want a certain "
    "auth.username beside it",
    "password": "see whether user and password are right; many hosts take tokens only",
    "github_app": "see whether the app is installed for this repository, with the permission Contents",
    "ssh_key": "see whether the host knows its public key, as a deploy key or a user's: ssh-keygen -y -f FILE",
}


def _key(auth: SourceAuth) -> str | None:
    return next((key for key in _HINTS if getattr(auth, key) is not None), None)


def _file(known_hosts: Path | None, address: Address) -> str:
    port = f", port {address.port}" if address.port else ""
    return f"{address.host}{port}, in {known_hosts or '~/.ssh/known_hosts'}"


def _keyscan(auth: SourceAuth, address: Address, reason: str) -> str:
    port = f"-p {address.port} " if address.port else ""
    line = f"ssh-keyscan {port}{address.host} >> {auth.known_hosts or '~/.ssh/known_hosts'}"
    if reason == _HOST_CHANGED:
        return f"ask the host's operator whether the key was replaced; if so, take out the old one, and {line}"
    return f"{line}; then compare the keys with those that the host publishes"
