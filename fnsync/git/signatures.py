"""What of a commit or a tag was signed, and the signature: read out of git's store, and nothing else.

git's own words about signatures are not asked for: they depend on programs and trust that its configuration names.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from fnsync.errors import LostObject, VerificationFailed
from fnsync.git import command
from fnsync.model import CommitId

#: The largest commit or tag that is looked at.
MOST_BYTES = 1 << 20
#: `-----BEGIN X-----` -> what kind of signature it begins.
KINDS = {b"SSH SIGNATURE": "ssh", b"PGP SIGNATURE": "gpg"}
_SIGNATURE = re.compile(rb"^-----BEGIN (SSH SIGNATURE|PGP SIGNATURE|PGP MESSAGE|SIGNED MESSAGE)-----\n", re.MULTILINE)
#: By the kind of the repository's hashes.
_HEADERS = (b"gpgsig ", b"gpgsig-sha256 ")
_HASHES = {40: hashlib.sha1, 64: hashlib.sha256}
_FOUND = re.compile(rb"((?:[0-9a-f]{40}|[0-9a-f]{64})) ([a-z]+) (\d+)")
_NAME = re.compile(r"[^\s\0]+")


class Rejected(Exception):
    """Why a signature does not count, in words that go on from `commit X …`."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A commit or a tag, and what it was signed with."""

    #: As it is told.
    what: str
    #: What the signature is over.
    payload: bytes
    #: None: it is not signed.
    signature: bytes | None = None
    #: ssh, gpg, or None for one that is neither.
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class _Object:
    id: str
    kind: str
    data: bytes


def signed_commit(repository: Path, commit: CommitId) -> Signed:
    """Raises VerificationFailed where it cannot be what git made, LostObject where it is not there."""
    found = _read(repository, commit)
    what = f"commit {commit[:12]}"
    if found.id != commit or found.kind != "commit":
        raise VerificationFailed(f"{what} is no commit but a {found.kind}")
    head, end, message = found.data.partition(b"\n\n")
    kept, signatures = _without_signatures(head.split(b"\n"))
    if not found.data.startswith(b"tree ") or b"\0" in head or len(signatures) > 1:
        reason = "has more than one signature" if len(signatures) > 1 else "is malformed"
        raise VerificationFailed(f"{what} {reason}", hint="no git makes such a commit; ask who pushed it")
    signed = Signed(what, b"\n".join(kept) + end + message)
    return _with_signature(signed, signatures[0]) if signatures else signed


def signed_tag(repository: Path, tag: str, commit: CommitId) -> Signed | None:
    """An annotated tag; None: it is a mere name of the commit. `tag`: its name, its ref, or its own hash.

    Raises VerificationFailed where it is another tag than it is called, or is of something else than the commit.
    """
    by_hash = len(tag) in _HASHES and re.fullmatch(r"[0-9a-f]+", tag) is not None
    ref = tag if by_hash or tag.startswith("refs/") else f"refs/tags/{tag}"
    name = ref.removeprefix("refs/tags/")
    what = f"tag {name[:100]}"
    try:
        found = _read(repository, ref)
    except LostObject as exc:
        raise VerificationFailed(f"{what} is not in {repository}") from exc
    if found.kind != "tag":
        return None
    head, _, _ = found.data.partition(b"\n\n")
    target, kind, called, *_ = [*head.split(b"\n"), b"", b"", b""]
    if (target, kind) != (b"object " + commit.encode(), b"type commit"):
        raise VerificationFailed(f"{what} is not of commit {commit[:12]}")
    # Else a tag that was signed once could be shown again under the name of a later one.
    if not by_hash and called != b"tag " + name.encode():
        was = called.decode(errors="replace").removeprefix("tag ")[:100]
        raise VerificationFailed(f"{what} was made as {was!r}", hint="a signed tag keeps its name")
    last = max((match.start() for match in _SIGNATURE.finditer(found.data)), default=None)
    if last is None:
        return Signed(what, found.data)
    return _with_signature(Signed(what, found.data[:last]), found.data[last:])


def _without_signatures(lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The lines of a commit's head that are no signature, and the signatures."""
    kept: list[bytes] = []
    signatures: list[list[bytes]] = []
    inside = False
    for line in lines:
        if header := next((header for header in _HEADERS if line.startswith(header)), None):
            signatures.append([line.removeprefix(header)])
            inside = True
        elif inside and line.startswith(b" "):
            signatures[-1].append(line[1:])
        else:
            kept.append(line)
            inside = False
    return kept, [b"\n".join(signature) + b"\n" for signature in signatures]


def _with_signature(signed: Signed, signature: bytes) -> Signed:
    match = _SIGNATURE.match(signature)
    return replace(signed, signature=signature, kind=KINDS.get(match[1]) if match else None)


def _read(repository: Path, name: str) -> _Object:
    """An object, whose hash has been found to be right. Replacements do not count."""
    if not _NAME.fullmatch(name):
        raise VerificationFailed(f"{name[:100]!r} can be no name of a commit or a tag")
    with command.conversation(repository, "--no-replace-objects", "cat-file", "--batch") as git:
        answer = _FOUND.fullmatch(git.ask(name.encode()))
        if answer is None:
            raise LostObject(f"{repository} has no {name[:100]}", hint=f"see what `git -C '{repository}' fsck` says")
        id, kind, size = answer[1].decode(), answer[2].decode(), int(answer[3])
        if size > MOST_BYTES:
            raise VerificationFailed(f"{kind} {id[:12]} has {size:,} bytes, more than the {MOST_BYTES:,} that are read")
        data = git.read(size)
    made = _HASHES[len(id)](f"{kind} {size}\0".encode() + data)
    if made.hexdigest() != id:
        raise VerificationFailed(f"{kind} {id[:12]} is not what its hash says", hint="the mirror is damaged")
    return _Object(id, kind, data)
