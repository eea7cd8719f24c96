"""GPG signatures, checked in a home of their own, which holds the configured keys and nothing else. No agent starts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fnsync.errors import ConfigError
from fnsync.git import programs
from fnsync.git.signatures import Rejected

_OPTIONS = (
    *("--batch", "--no-tty", "--no-options", "--no-autostart", "--disable-dirmngr", "--status-fd", "1"),
    # Whoever is in this home is trusted; nobody else is looked for.
    *("--trust-model", "always", "--no-auto-key-retrieve", "--no-auto-key-locate", "--no-auto-check-trustdb"),
)
_STATUS = "[GNUPG:] "
#: What gpg calls a signature that does not count -> in our words. The first that was said is told.
_BAD = {
    "BADSIG": "has a signature by the GPG key {} that does not fit its content",
    "REVKEYSIG": "is signed with the GPG key {}, which is revoked",
    "EXPKEYSIG": "is signed with the GPG key {}, which has expired",
    "EXPSIG": "has a signature by the GPG key {} that has expired",
    "NO_PUBKEY": "is signed with a GPG key that is not among them, {}",
    "ERRSIG": "has a signature by the GPG key {} that gpg cannot check",
}
_NAME_CHARACTERS = 200


def import_keys(files: tuple[Path, ...], home: Path, named: str) -> frozenset[str]:
    """Make a keyring of exported public keys in an empty folder. Returns their fingerprints. Raises ConfigError."""
    (home / "common.conf").touch()  # gpg 2.4 would use a daemon
    found: set[str] = set()
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{named}: there is no file {file}")
        # It also asks for an agent, in vain, which may be what its exit code is about.
        _, told, said = _gpg(home, "--import", "--", str(file))
        status = _status(told)
        keys = {words[2] for words in status if words[0] == "IMPORT_OK" and len(words) > 2}
        if not keys or any(words[0] == "IMPORT_PROBLEM" for words in status):
            raise ConfigError(
                f"{named}: {file} holds no public keys that gpg takes: {said or 'no reason given'}",
                hint="gpg --export --armor KEY > FILE",
            )
        found |= keys
    return frozenset(found)


def check(payload: bytes, signature: bytes, keys: frozenset[str], home: Path) -> str:
    """Who signed. Raises Rejected, ConfigError."""
    file = home / "signature"
    file.write_bytes(signature)
    code, told, said = _gpg(home, "--verify", "--", str(file), "-", stdin=payload)
    status = _status(told)
    for keyword, reason in _BAD.items():
        if found := next((words for words in status if words[0] == keyword), None):
            raise Rejected(reason.format(" ".join(found[1:2])))
    counted = Counter(words[0] for words in status)
    valid = next((words for words in status if words[0] == "VALIDSIG"), [])
    single = counted["NEWSIG"] == counted["GOODSIG"] == counted["VALIDSIG"] == 1
    if code or not single or valid[-1] not in keys:
        reason = said.replace(f"{home}/", "") or "gpg gives no reason"
        raise Rejected(f"has a GPG signature that does not hold: {reason}")
    name = next(" ".join(words[2:]) for words in status if words[0] == "GOODSIG")
    shown = "".join(character for character in name[:_NAME_CHARACTERS] if character.isprintable())
    return f"{shown or 'key'} ({valid[-1]})"


def _gpg(home: Path, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    return programs.run("gpg", "--homedir", str(home), *_OPTIONS, *arguments, stdin=stdin)


def _status(told: str) -> list[list[str]]:
    """What gpg tells programs: words, the first of them the keyword."""
    lines = [line.removeprefix(_STATUS).split() for line in told.splitlines() if line.startswith(_STATUS)]
    return [words for words in lines if words]
