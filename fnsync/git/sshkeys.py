"""SSH signatures, and the keys whose signatures count: `ssh-keygen` checks, with an allowed signers file of ours."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fnsync.errors import ConfigError
from fnsync.git import programs
from fnsync.git.signatures import Rejected

NAMESPACE = "git"
MOST_BYTES = 1 << 20
#: How many names that one key goes by are tried.
_MOST_NAMES = 20
_ARMOR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n(.*?)\n-----END SSH SIGNATURE-----\s*", re.DOTALL)
_KIND = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w.@-]+")
#: Words, with spaces inside quotes.
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_NAMES = re.compile(r'[^\s",=]+(,[^\s",=]+)*')
_OPTION = re.compile(r'(?:cert-authority|(?:namespaces|valid-after|valid-before)="[^"]*")(?:,|$)', re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[\w.+@-]+")


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key whose signatures count."""

    #: Of the allowed signers file.
    line: str
    blob: bytes
    #: As it is told.
    name: str

    def __str__(self) -> str:
        return f"{self.name} {fingerprint(self.blob)}"


def read_keys(files: tuple[Path, ...], named: str) -> tuple[SshKey, ...]:
    """The keys in files of public keys, and in allowed signers files. Raises ConfigError with file and line."""
    keys = [key for file in files for key in _keys_of(file, named)]
    return tuple(dict.fromkeys(keys))


def check(payload: bytes, signature: bytes, keys: tuple[SshKey, ...], folder: Path) -> str:
    """Who signed. Raises Rejected, ConfigError."""
    blob = _signing_key(signature)
    shown = fingerprint(blob)
    allowed, file = folder / "allowed", folder / "signature"
    allowed.write_text("".join(f"{key.line}\n" for key in keys), encoding="utf-8")
    file.write_bytes(signature)
    code, found, said = programs.run("ssh-keygen", "-Y", "find-principals", "-s", str(file), "-f", str(allowed))
    if "nsupported operation" in said:
        raise ConfigError("signatures cannot be checked: ssh-keygen is too old", hint="install OpenSSH 8.2 or newer")
    names = list(dict.fromkeys(found.splitlines()))[:_MOST_NAMES] if code == 0 else []
    if not names and not any(key.blob == blob for key in keys):
        raise Rejected(f"is signed with an SSH key that is not among them, {shown}")
    for name in names:
        line = ("-Y", "verify", "-n", NAMESPACE, "-I", name, "-s", str(file), "-f", str(allowed))
        code, told, said = programs.run("ssh-keygen", *line, stdin=payload)
        if code == 0 and told.startswith(f'Good "{NAMESPACE}" signature for '):
            return f"{name} ({shown})"
    reason = said.replace(f"{folder}/", "") or "ssh-keygen gives no reason"
    raise Rejected(f"has a signature by {shown} that does not hold: {reason}")


def fingerprint(blob: bytes) -> str:
    """As ssh shows it."""
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def _keys_of(file: Path, named: str) -> Iterator[SshKey]:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MOST_BYTES)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is not UTF-8"
        raise ConfigError(f"{named}: {file} cannot be read: {reason}") from exc
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise ConfigError(f"{named}: {file} holds no key")
    for number, line in lines:
        try:
            yield _key(line, file.stem)
        except ValueError as exc:
            raise ConfigError(
                f"{named}: {file}:{number}: {exc}",
                hint="a line is a public key, as in id_ed25519.pub, or one of an allowed signers file: ssh-keygen(1)",
            ) from exc


def _key(line: str, stem: str) -> SshKey:
    """A line of a file. Raises ValueError, which says what is wrong."""
    words = _WORD.findall(line)
    at = next((at for at, word in enumerate(words[:3]) if _KIND.fullmatch(word)), None)
    if at is None or len(words) < at + 2:
        raise ValueError("holds no public key")
    kind, encoded = words[at : at + 2]
    blob = _blob(kind, encoded)
    if at == 0:
        comment = " ".join(words[2:])
        name = next((name for name in (comment, stem) if _PLAIN_NAME.fullmatch(name)), "key")
        return SshKey(f'{name} namespaces="{NAMESPACE}" {kind} {encoded}', blob, name)
    names = words[0].strip('"')
    options = words[1] if at == 2 else ""
    if not _NAMES.fullmatch(names):
        raise ValueError(f"{names[:100]!r} are no names of signers")
    if "".join(match[0] for match in _OPTION.finditer(options)) != options:
        raise ValueError(f"{options[:100]!r} is no option of an allowed signers file")
    return SshKey(" ".join(part for part in (names, options, kind, encoded) if part), blob, names)


def _blob(kind: str, encoded: str) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("holds a key that is damaged") from None
    if "-cert-" in kind:
        raise ValueError("holds a certificate; name its key, or its authority with the option cert-authority")
    if next(_strings(blob), b"") != kind.encode():
        raise ValueError("holds a key that is damaged")
    return blob


def _signing_key(signature: bytes) -> bytes:
    """The public key that a signature names. Raises Rejected."""
    match = _ARMOR.fullmatch(signature)
    try:
        data = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
    except (binascii.Error, ValueError):
        data = b""
    magic, version, rest = data[:6], data[6:10], data[10:]
    strings = list(_strings(rest))
    if magic != b"SSHSIG" or version != b"\0\0\0\1" or len(strings) != 5:
        raise Rejected("has an SSH signature that cannot be read")
    if strings[1] != NAMESPACE.encode():
        raise Rejected(f"has an SSH signature that was made for {strings[1][:40].decode(errors='replace')!r}, not git")
    return strings[0]


def _strings(data: bytes) -> Iterator[bytes]:
    """The strings of ssh's encoding, each with its length in front, as far as they are whole."""
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 + size:
            return
        yield data[4 : 4 + size]
        data = data[4 + size :]
