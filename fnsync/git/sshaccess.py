"""The ssh that git runs: with one key, with known hosts only, and without questions."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
from pathlib import Path

from fnsync.errors import ConfigError

CONNECT_S = 20
#: ssh reads quotes and variables in the values of its options, and has no way around it.
_UNSPEAKABLE = re.compile(r'["\\\x00-\x1f]|\$\{')
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----\s(.*?)-----END \1-----", re.DOTALL)
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    # What the server learns of hosts it does not write down, and nothing of ours goes to it.
    "UpdateHostKeys": "no",
    "CheckHostIP": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ControlPath": "none",
    "PermitLocalCommand": "no",
    "ConnectTimeout": str(CONNECT_S),
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    # What the other side greets with is not what went wrong.
    "LogLevel": "ERROR",
}
_ONE_KEY = {"IdentitiesOnly": "yes", "IdentityAgent": "none", "PreferredAuthentications": "publickey"}


def command(key: Path | None, known_hosts: Path | None) -> str:
    """What goes into GIT_SSH_COMMAND. Raises ConfigError for a file that is not there.

    With a key, that one alone is shown, and nobody's `~/.ssh/config` counts. Without `known_hosts` it is those files
    that ssh reads by itself.
    """
    options = dict(_OPTIONS)
    words = ["ssh"]
    if key is not None:
        words += ["-F", os.devnull]
        options |= {**_ONE_KEY, "IdentityFile": _spoken(key)}
    if known_hosts is not None:
        if not os.access(known_hosts, os.R_OK) or not known_hosts.is_file():
            raise ConfigError(f"the file {known_hosts} cannot be read", hint="ssh-keyscan HOST writes such a file")
        options |= {"UserKnownHostsFile": _spoken(known_hosts), "GlobalKnownHostsFile": os.devnull}
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return shlex.join(words)


def usable_key(text: str, file: Path | None, folder: Path) -> Path:
    """A file with the private key `text` that ssh takes: `file`, where it comes from, or a copy in `folder`.

    Raises ConfigError where it is no private key, or has a passphrase.
    """
    clean = clean_key(text)
    if file is not None and file.read_bytes() == clean.encode() and not too_open(file):
        return file
    copy = folder / "key"
    with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(clean)
    return copy


def too_open(file: Path) -> bool:
    """Whether ssh would refuse a private key since others can read it."""
    found = file.stat()
    return found.st_uid == os.getuid() and bool(found.st_mode & 0o077)


def clean_key(text: str) -> str:
    """A private key as ssh reads it: line ends as they should be, also at the end. Raises ConfigError."""
    text = clean_pem(text)
    match = _PEM.fullmatch(text.strip())
    if match is None:
        public = text.startswith(("ssh-", "ecdsa-", "sk-"))
        found = "is a public key" if public else "is no private key"
        raise ConfigError(f"{found}; a private key begins with -----BEGIN … PRIVATE KEY-----")
    if _has_passphrase(match[1], match[2]):
        raise ConfigError(
            "the private key has a passphrase, and nobody is there to give it",
            hint="make a key of its own for this server: ssh-keygen -t ed25519 -N '' -f FILE",
        )
    return text


def clean_pem(text: str) -> str:
    """A PEM text whose lines end with newlines; variables often hold them as `\\n`."""
    if "\n" not in text.strip():
        text = text.replace("\\n", "\n")
    return text.replace("\r\n", "\n").strip() + "\n"


def _has_passphrase(label: str, body: str) -> bool:
    if label != "OPENSSH PRIVATE KEY":
        return "ENCRYPTED" in label or "ENCRYPTED" in body
    try:
        data = base64.b64decode("".join(body.split()))
    except (binascii.Error, ValueError):
        return False  # ssh says what is wrong with it
    cipher = data.removeprefix(_OPENSSH_MAGIC)
    return data.startswith(_OPENSSH_MAGIC) and cipher[4 : 4 + int.from_bytes(cipher[:4], "big")] != b"none"


def _spoken(path: Path) -> str:
    """A path as the value of an option of ssh."""
    text = str(path.absolute())
    if _UNSPEAKABLE.search(text):
        raise ConfigError(f"ssh cannot be told a path with quotes, backslashes or ${{: {text!r}")
    text = text.replace("%", "%%")
    return f'"{text}"' if " " in text else text
