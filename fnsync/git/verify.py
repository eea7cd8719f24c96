"""Whether a commit, or the tag it was asked for by, is signed by one of the keys of the configuration.

Only the commit and the tag are read for it, so it is known before any content of the commit is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fnsync.configgit import SourceVerify
from fnsync.errors import VerificationFailed
from fnsync.git import gpgkeys, sshkeys
from fnsync.git.scratch import private_folder
from fnsync.git.signatures import Rejected, Signed, signed_commit, signed_tag
from fnsync.model import CommitId

#: How many keys an error names.
_TOLD = 5


def is_wanted(rules: SourceVerify) -> bool:
    """Whether commits have to be signed."""
    return bool(rules.ssh or rules.gpg)


def verify(
    repository: Path, commit: CommitId, tag: str | None, rules: SourceVerify, scratch: Path, *, named: str = "verify"
) -> str:
    """Who signed: a name and the key's fingerprint. Blocks.

    `tag`: the name of the tag that the commit was asked for by, its ref, or its hash. `named`: what `rules` are called
    in errors. Keys count as they are now: one that has expired since then, or was revoked, does not count any more.
    Raises VerificationFailed, ConfigError where keys or programs are missing, RepositoryError.
    """
    with private_folder(scratch) as folder:
        keys = _Keys(rules, folder, named)
        reasons = []
        for read in _candidates(repository, commit, tag):
            try:
                signed = read()
                if signed is not None:
                    return keys.signer(signed)
            except VerificationFailed as exc:
                reasons.append(exc.message)
    raise VerificationFailed(
        f"{'; '.join(reasons)}; expected a signature by {keys.told()}",
        hint=f"have it signed by one of them (git commit -S, git tag -s), or add the signer's key to {named}",
    )


def _candidates(repository: Path, commit: CommitId, tag: str | None) -> list[Callable[[], Signed | None]]:
    """What may be signed."""
    found: list[Callable[[], Signed | None]] = []
    if tag is not None:
        found.append(lambda: signed_tag(repository, tag, commit))
    return [*found, lambda: signed_commit(repository, commit)]


class _Keys:
    """The keys whose signatures count. Wrong ones are found whatever the signature is."""

    def __init__(self, rules: SourceVerify, folder: Path, named: str) -> None:
        self._folder = folder
        self._ssh = sshkeys.read_keys(rules.ssh, f"{named}.ssh")
        self._gpg = gpgkeys.import_keys(rules.gpg, folder, f"{named}.gpg") if rules.gpg else frozenset()

    def signer(self, signed: Signed) -> str:
        """Who signed it. Raises VerificationFailed."""
        if signed.signature is None:
            raise VerificationFailed(f"{signed.what} is not signed")
        try:
            if signed.kind == "ssh":
                return sshkeys.check(signed.payload, signed.signature, self._ssh, self._folder)
            if signed.kind == "gpg" and self._gpg:
                return gpgkeys.check(signed.payload, signed.signature, self._gpg, self._folder)
        except Rejected as exc:
            raise VerificationFailed(f"{signed.what} {exc}") from exc
        kind = "GPG" if signed.kind == "gpg" else "neither SSH nor GPG"
        raise VerificationFailed(f"{signed.what} is signed, but the signature is {kind}")

    def told(self) -> str:
        names = [*map(str, self._ssh), *sorted(self._gpg)]
        more = f", or {len(names) - _TOLD} more" if len(names) > _TOLD else ""
        return f"{', '.join(names[:_TOLD])}{more}" if names else "nobody: no keys are configured"
