"""A mirror's repository on disk: made, looked at, swept of what killed commands leave, and held by one fetch at a time.

Its configuration says nothing of a remote, also where contents are left out: what reads it never speaks to one, and
finds missing what is.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

from fnsync.errors import RepositoryBusy, RepositoryError
from fnsync.git import command
from fnsync.git.refnames import PEELED
from fnsync.git.transfer import Remote
from fnsync.model import CommitId

#: Where our own refs are.
OURS = "refs/fnsync/"
INCOMING = OURS + "incoming"
#: Commits that were asked for by their hashes, and those that are kept.
COMMITS = OURS + "commits/"
_MARKER = "fnsync.json"
#: What names begin with that nobody wants after a crash.
TEMPORARY = ".tmp-mirror-"
#: Has git take it for granted that the remote has what is missing here. Only for what runs with a remote at hand: other
#: commands would try to get it, one by one.
PROMISED = (
    *("-c", f"remote.{Remote.NAME}.promisor=true"),
    *("-c", f"remote.{Remote.NAME}.partialclonefilter=blob:none"),
)
#: Older ones have no command that gets many contents at once, and know one kind of hashes.
_PARTIAL_SINCE = (2, 29)
_VERSION = re.compile(rb"(\d+)\.(\d+)")
#: How often a lock is tried, in seconds.
_AGAIN_S = 0.05


class Marker(msgspec.Struct, frozen=True):
    """What a mirror was made for."""

    #: Hash of the URL, which may hold what is secret.
    url: str
    #: The remote can send neither less history nor fewer contents.
    plain: bool = False


@cache
def version() -> tuple[int, int]:
    """Of git. Raises RepositoryError."""
    _, said = command.run(Path("/"), "version")
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def can_be_partial() -> bool:
    """Whether this git can get the contents that are missing."""
    return version() >= _PARTIAL_SINCE


def marker(folder: Path, url: str) -> Marker | None:
    """What the mirror in a folder was made for; None: there is none of that URL, or no whole one."""
    try:
        found = msgspec.json.decode((folder / _MARKER).read_bytes(), type=Marker)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    whole = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "config").is_file()
    return found if whole and found.url == _hash(url) else None


def create(parent: Path, url: str, *, plain: bool, object_format: str | None = None) -> Path:
    """Make an empty mirror beside the one to be replaced. Raises RepositoryError."""
    folder = parent / (TEMPORARY + os.urandom(8).hex())
    folder.mkdir(parents=True)
    # Not what the operator's git makes by default.
    extra = (f"--object-format={object_format or 'sha1'}",) if can_be_partial() else ()
    command.run(folder, "init", "--bare", "--quiet", "--template=", *extra, ".")
    (folder / _MARKER).write_bytes(msgspec.json.encode(Marker(_hash(url), plain)))
    return folder


def replace(folder: Path, fresh: Path) -> None:
    """Put a mirror in the place of another. A crash between leaves none, and the other under a temporary name."""
    with suppress(FileNotFoundError):
        folder.rename(folder.with_name(TEMPORARY + os.urandom(8).hex()))
    fresh.rename(folder)
    sweep_beside(folder)


def sweep(folder: Path) -> None:
    """Remove what killed commands have left in a mirror that is held."""
    for path in [*folder.glob("*.lock"), *folder.glob("refs/**/*.lock"), *folder.glob("objects/pack/tmp_*")]:
        path.unlink(missing_ok=True)
    for path in [*folder.glob("objects/*/tmp_obj_*"), *folder.glob("shallow_*"), *folder.glob("objects/tmp_*")]:
        if path.is_file():
            path.unlink(missing_ok=True)


def sweep_beside(folder: Path) -> None:
    """Remove mirrors that were not finished."""
    for path in list(folder.parent.glob(TEMPORARY + "*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def packs(folder: Path) -> frozenset[str]:
    with suppress(FileNotFoundError):
        return frozenset(os.listdir(folder / "objects" / "pack"))
    return frozenset()


def is_partial(folder: Path) -> bool:
    """Whether contents may be missing that the remote has."""
    return any(name.endswith(".promisor") for name in packs(folder))


def shallow(folder: Path) -> bytes:
    """Git's list of the commits without their parents; empty: all history is here."""
    with suppress(FileNotFoundError):
        return (folder / "shallow").read_bytes()
    return b""


@dataclass(frozen=True, slots=True)
class Ref:
    """What a ref names, and the commit that this stands for."""

    id: str
    commit: CommitId


def refs(folder: Path) -> dict[str, Ref]:
    """All refs that stand for commits. Raises RepositoryError, also where one names what is not there."""
    form = "--format=%(refname) %(objectname) %(objecttype) %(*objectname) %(*objecttype)"
    _, output = command.run(folder, "--git-dir=.", "for-each-ref", form)
    found = {}
    for line in os.fsdecode(output).splitlines():
        name, id, kind, *peeled = line.split(" ")
        commit = id if kind == "commit" else peeled[0] if peeled[1:] == ["commit"] else None
        if commit is not None:
            found[name] = Ref(id, CommitId(commit))
    return found


def look(folder: Path, *names: str) -> list[CommitId | None]:
    """The commits that names of any form mean here. Raises RepositoryError."""
    asked = "".join(f"{name}^{{commit}}\n" for name in names)
    _, output = command.run(folder, "--git-dir=.", "cat-file", "--batch-check", stdin=os.fsencode(asked))
    answers = (line.split() for line in output.decode(errors="replace").splitlines())
    return [CommitId(answer[0]) if answer[1:2] == ["commit"] else None for answer in answers]


def is_held(folder: Path, commit: CommitId) -> bool:
    """Whether a ref has a commit in its history: what belongs to none may be half of a fetch."""
    line = ("for-each-ref", "--count=1", f"--contains={commit}")
    done = command.attempt(folder, "--git-dir=.", *line)
    return done.code == 0 and bool(done.output)


def update(folder: Path, lines: Sequence[str]) -> None:
    """Change refs, all or none; lines are those of `git update-ref --stdin`. Raises RepositoryError."""
    if lines:
        text = "".join(f"{line}\n" for line in lines)
        command.run(folder, "--git-dir=.", "update-ref", "--stdin", stdin=os.fsencode(text))


def is_sound(folder: Path, remote: Remote) -> bool:
    """Whether git finds nothing wrong with all that is here. Reads all of it."""
    line = ("fsck", "--no-dangling", "--no-progress", "--no-reflogs", "--connectivity-only")
    if remote.run(folder, *PROMISED, *line).code:
        return False
    return not any(remote.run(folder, "verify-pack", f"objects/pack/{name}").code for name in _indexes(folder))


def _indexes(folder: Path) -> list[str]:
    return sorted(name for name in packs(folder) if name.endswith(".idx"))


def parse_remote(output: bytes) -> tuple[dict[str, str], str | None]:
    """Of `git ls-remote --symref`: full name -> object, and the branch that HEAD is."""
    there: dict[str, str] = {}
    head = None
    for line in os.fsdecode(output).splitlines():
        about, _, name = line.partition("\t")
        if about.startswith("ref: "):
            head = about.removeprefix("ref: ") if name == "HEAD" else head
        elif name and (name == "HEAD" or name.removesuffix(PEELED).startswith("refs/")):
            there[name] = about
    return there, head


def put_together(folder: Path, remote: Remote, commits: Sequence[CommitId]) -> None:
    """Have one pack with what belongs to some commits, which all refs are of, and nothing else. Raises RepositoryError.

    A crash leaves packs that hold the same things twice.
    """
    if not is_partial(folder):
        _checked(folder, remote.run(folder, "gc", "--prune=now", "--quiet"))
        return
    # Git's own clean-up keeps all that was once fetched into a partial repository.
    old = packs(folder)
    asked = "".join(f"{commit}\n" for commit in commits).encode()
    line = ("pack-objects", "--revs", "--missing=allow-any", "--quiet", "objects/pack/pack")
    name = _checked(folder, remote.run(folder, *line, stdin=asked)).decode().strip()
    if name:  # else there is nothing to be packed
        (folder / "objects" / "pack" / f"pack-{name}.promisor").touch()
    for other in sorted(old, key=lambda other: not other.endswith(".idx")):
        if not other.startswith(f"pack-{name}."):
            (folder / "objects" / "pack" / other).unlink(missing_ok=True)
    cut = [line for line in shallow(folder).decode().split() if look(folder, line) != [None]]
    fresh = folder / "shallow.lock"
    fresh.write_text("".join(f"{line}\n" for line in cut))
    if cut:
        fresh.rename(folder / "shallow")
    else:
        fresh.unlink()
        (folder / "shallow").unlink(missing_ok=True)


def _checked(folder: Path, done: command.Done) -> bytes:
    if done.code:
        raise RepositoryError(f"{folder} cannot be put together: {done.said}")
    return done.output


# ---- one at a time -----------------------------------------------------------------------------------------


class Hold:
    """The lock of a mirror. Every git that is started gets its descriptor: it holds as long as one of them lives."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def note(self, group: int) -> None:
        """Write down who holds it: this process, and the process group of its git."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()} {group}".encode(), 0)


@contextmanager
def held(path: Path, limit_s: float) -> Iterator[Hold]:
    """Hold a lock file. What a killed server has left running is ended. Raises RepositoryBusy after `limit_s`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + limit_s
        while not _try_lock(descriptor):
            _end_orphan(os.pread(descriptor, 64, 0))
            if time.monotonic() > until:
                raise RepositoryBusy(f"another process uses {path.parent}", retry_after_s=10.0)
            time.sleep(_AGAIN_S)
        yield Hold(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphan(noted: bytes) -> None:
    """End a git whose server is gone."""
    numbers = noted.split()
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return
    owner, group = int(numbers[0]), int(numbers[1])
    try:
        line = Path(f"/proc/{group}/cmdline").read_bytes()
    except OSError:
        return  # ended; its own children see that
    if not Path(f"/proc/{owner}").exists() and f"remote.{Remote.NAME}.url=".encode() in line:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _hash(url: str) -> str:
    return sha256(url.encode(errors="surrogatepass")).hexdigest()
