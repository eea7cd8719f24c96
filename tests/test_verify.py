"""Which commits count as signed: real keys, real signatures, and what somebody might try instead."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnsync.configgit import SourceVerify
from fnsync.errors import ConfigError, FnsyncError, LostObject, VerificationFailed
from fnsync.git import signatures, verify
from fnsync.git.fetches import MirrorOptions
from fnsync.git.materialize import Selection
from fnsync.git.mirror import Mirror
from fnsync.model import CommitId
from tests.commandlines import command_lines
from tests.repositories import Repository

SSH_END = b"-----END SSH SIGNATURE-----"
needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg on this machine")


class Keys:
    """SSH keys by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("ada", "eve"):
            line = ("-q", "-t", "ed25519", "-N", "", "-C", f"{name}@example.org", "-f", folder / name)
            subprocess.run(["ssh-keygen", *line], check=True)

    def public(self, name: str) -> Path:
        return self.folder / f"{name}.pub"

    def text(self, name: str) -> str:
        """Kind and key, without the comment."""
        return " ".join(self.public(name).read_text().split()[:2])

    def fingerprint(self, name: str) -> str:
        told = subprocess.run(["ssh-keygen", "-l", "-f", self.public(name)], check=True, capture_output=True, text=True)
        return told.stdout.split()[1]

    def sign(self, name: str, payload: bytes, namespace: str = "git") -> bytes:
        line = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", self.folder / name]
        return subprocess.run(line, input=payload, check=True, capture_output=True).stdout


class Signer:
    """A repository whose commits are signed, and what `verify` says of them."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.repository = Repository(folder / "work")
        self.keys = keys
        self.scratch = folder / "scratch"
        self.folder = folder
        self.plain = self.repository.commit(0, {"a.py": "A = 1\n"})

    def git(self, *arguments: str, key: str = "ada") -> str:
        signing = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={self.keys.folder / key}")
        return self.repository.git(*signing, *arguments)

    def commit(self, key: str = "ada") -> CommitId:
        self.git("commit", "-q", "--allow-empty", "-S", "-m", "signed", key=key)
        return CommitId(self.git("rev-parse", "HEAD"))

    def raw(self, id: str, kind: str = "commit") -> bytes:
        line = ["git", "-C", self.repository.folder, "cat-file", kind, id]
        return subprocess.run(line, check=True, capture_output=True).stdout

    def make(self, data: bytes, kind: str = "commit") -> CommitId:
        """Write an object as it is, whatever git thinks of it."""
        line = ["git", "-C", self.repository.folder, "hash-object", "-w", "--literally", "-t", kind, "--stdin"]
        return CommitId(subprocess.run(line, input=data, check=True, capture_output=True).stdout.decode().strip())

    def verify(
        self, commit: str, tag: str | None = None, *, ssh: list[Path] | None = None, gpg: tuple[Path, ...] = ()
    ) -> str:
        files = [self.keys.public("ada")] if ssh is None else ssh
        rules = SourceVerify(ssh=tuple(files), gpg=gpg)
        try:
            return verify.verify(self.repository.folder, CommitId(commit), tag, rules, self.scratch)
        finally:
            assert not list(self.scratch.glob("*")), "something stays in scratch"

    def refused(self, commit: str, tag: str | None = None, **files: list[Path]) -> VerificationFailed:
        with pytest.raises(VerificationFailed) as told:
            self.verify(commit, tag, ssh=files.get("ssh"))
        return told.value

    def file(self, text: str) -> list[Path]:
        file = self.folder / "allowed"
        file.write_text(text)
        return [file]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signer(keys: Keys, tmp_path: Path) -> Signer:
    return Signer(tmp_path, keys)


def header(signature: bytes, name: bytes = b"gpgsig") -> bytes:
    return name + b" " + signature.strip().replace(b"\n", b"\n ") + b"\n"


def with_header(payload: bytes, *headers: bytes) -> bytes:
    head, _, message = payload.partition(b"\n\n")
    return head + b"\n" + b"".join(headers) + b"\n" + message


# ---- SSH -------------------------------------------------------------------------------------------------


def test_a_commit_that_is_signed_by_a_key_passes_and_says_whose(signer: Signer) -> None:
    assert signer.verify(signer.commit()) == f"ada@example.org ({signer.keys.fingerprint('ada')})"


def test_what_is_unsigned_is_refused_with_what_is_expected(signer: Signer) -> None:
    error = signer.refused(signer.plain)
    expected = f"ada@example.org {signer.keys.fingerprint('ada')}"
    assert error.message == f"commit {signer.plain[:12]} is not signed; expected a signature by {expected}"
    assert (error.code, error.status) == ("verification_failed", 409)


def test_an_unknown_key_is_refused_and_told(signer: Signer) -> None:
    error = signer.refused(signer.commit("eve"))
    assert f"is signed with an SSH key that is not among them, {signer.keys.fingerprint('eve')}" in error.message


def test_a_signature_over_something_else_is_refused(signer: Signer) -> None:
    signed = signer.raw(signer.commit())
    for other in (signed.replace(b"signed\n", b"other\n"), signed.replace(b"author A", b"author B")):
        assert other != signed
        assert "does not hold" in signer.refused(signer.make(other)).message


def test_a_signature_for_another_purpose_is_refused(signer: Signer) -> None:
    payload = signer.raw(signer.plain)
    commit = signer.make(with_header(payload, header(signer.keys.sign("ada", payload, "file"))))
    assert "was made for 'file', not git" in signer.refused(commit).message


def test_the_sha256_header_counts_as_well(signer: Signer) -> None:
    payload = signer.raw(signer.plain)
    commit = signer.make(with_header(payload, header(signer.keys.sign("ada", payload), b"gpgsig-sha256")))
    assert signer.verify(commit).startswith("ada@example.org ")


@pytest.mark.parametrize("names", [(b"gpgsig", b"gpgsig"), (b"gpgsig", b"gpgsig-sha256")])
def test_two_signatures_are_none(signer: Signer, names: tuple[bytes, bytes]) -> None:
    payload = signer.raw(signer.plain)
    good, bad = signer.keys.sign("ada", payload), signer.keys.sign("eve", payload)
    for order in ((good, bad), (bad, good)):
        headers = [header(signature, name) for signature, name in zip(order, names, strict=True)]
        assert "more than one signature" in signer.refused(signer.make(with_header(payload, *headers))).message


def test_a_signature_in_the_message_is_none(signer: Signer) -> None:
    payload = signer.raw(signer.plain)
    commit = signer.make(payload + b"\n" + header(signer.keys.sign("ada", payload)))
    assert "is not signed" in signer.refused(commit).message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"x y\n" + data, "is malformed"),
        (lambda data: data.replace(b"\nauthor", b"\nx \0y\nauthor"), "is malformed"),
        (lambda data: data + b"x" * signatures.MOST_BYTES, "more than the"),
        (lambda data: with_header(data, header(b"-----BEGIN SSH SIGNATURE-----\nAAAA\n" + SSH_END)), "cannot be read"),
        (lambda data: with_header(data, header(b"-----BEGIN SSH SIGNATURE-----")), "cannot be read"),
        (lambda data: with_header(data, header(b"-----BEGIN SIGNED MESSAGE-----\n")), "neither SSH nor GPG"),
        (lambda data: with_header(data, header(b"-----BEGIN PGP MESSAGE-----\n")), "neither SSH nor GPG"),
        (lambda data: with_header(data, header(b"-----BEGIN PGP SIGNATURE-----\n")), "the signature is GPG"),
        (lambda data: with_header(data, b"gpgsig \n"), "neither SSH nor GPG"),
    ],
    ids=range(9),
)
def test_what_no_git_makes_is_refused(signer: Signer, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    assert reason in signer.refused(signer.make(change(signer.raw(signer.plain)))).message


def test_replacements_and_the_configuration_of_git_do_not_count(signer: Signer) -> None:
    signer.repository.git("replace", signer.plain, signer.commit())
    for key in ("gpg.program", "gpg.ssh.program"):
        signer.repository.git("config", key, "true")
    assert "is not signed" in signer.refused(signer.plain).message


def test_an_object_that_is_not_what_its_hash_says_is_refused(signer: Signer) -> None:
    good, bad = signer.commit(), signer.plain
    objects = signer.repository.folder / ".git/objects"
    file = objects / bad[:2] / bad[2:]
    file.chmod(0o600)
    file.write_bytes((objects / good[:2] / good[2:]).read_bytes())
    with pytest.raises(FnsyncError):
        signer.verify(bad)


def test_a_commit_that_is_not_there_is_told(signer: Signer) -> None:
    with pytest.raises(LostObject):
        signer.verify("0" * 40)
    tree = signer.repository.git("rev-parse", f"{signer.plain}^{{tree}}")
    assert "is no commit but a tree" in signer.refused(tree).message


def test_a_repository_with_longer_hashes_is_verified(keys: Keys, tmp_path: Path) -> None:
    signer = Signer.__new__(Signer)
    signer.repository = Repository(tmp_path / "long", "--object-format=sha256")
    signer.keys, signer.scratch, signer.folder = keys, tmp_path / "scratch", tmp_path
    plain = signer.repository.commit(0, {"a.py": "A = 1\n"})
    assert len(plain) == 64
    assert "is not signed" in signer.refused(plain).message
    assert signer.verify(signer.commit()).startswith("ada@example.org ")


def test_in_a_mirror_only_the_commit_is_read(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, mirror = signer.commit(), signer.folder / "mirror"
    signer.repository.git("config", "uploadpack.allowFilter", "true")
    line = [
        "git",
        "clone",
        "-q",
        "--bare",
        "--depth=1",
        "--filter=tree:0",
        f"file://{signer.repository.folder}",
        mirror,
    ]
    subprocess.run(line, check=True)
    signer.repository.folder.rename(signer.folder / "away")
    config = signer.folder / "gitconfig"
    config.write_text("[safe]\n\tbareRepository = explicit\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    rules = SourceVerify(ssh=(signer.keys.public("ada"),))
    assert verify.verify(mirror, commit, None, rules, signer.scratch).startswith("ada@example.org ")


# ---- files of keys ---------------------------------------------------------------------------------------


def test_an_allowed_signers_file_says_who_may(signer: Signer) -> None:
    commit, key = signer.commit(), signer.keys.text("ada")
    good = (
        f"ada@acme.org {key}",
        f'# team\n\nada@acme.org,a@acme.org namespaces="git,file" {key} of Ada',
        f"{signer.keys.text('eve')}\n{key} ada@acme.org",
        f'ada@acme.org valid-after="20200101",valid-before="29990101" {key}',
        f'old@acme.org valid-before="20200101" {key}\nada@acme.org {key}',
    )
    for text in good:
        assert signer.verify(commit, ssh=signer.file(text)).startswith("ada@acme.org "), text


@pytest.mark.parametrize("options", ['valid-before="20200101"', 'valid-after="29990101"', 'namespaces="file"'])
def test_a_key_that_does_not_count_now_or_for_git_is_refused(signer: Signer, options: str) -> None:
    files = signer.file(f"ada@acme.org {options} {signer.keys.text('ada')}")
    assert "that does not hold" in signer.refused(signer.commit(), ssh=files).message


def test_a_commit_cannot_be_dated_back_to_when_its_key_counted(signer: Signer) -> None:
    files = signer.file(f'ada@acme.org valid-before="20200101" {signer.keys.text("ada")}')
    payload = signer.raw(signer.plain).replace(b"1700000000", b"1500000000")
    commit = signer.make(with_header(payload, header(signer.keys.sign("ada", payload))))
    assert "that does not hold" in signer.refused(commit, ssh=files).message


def test_an_authority_vouches_for_others(signer: Signer, tmp_path: Path) -> None:
    for name in ("ada", "ada.pub"):
        shutil.copy(signer.keys.folder / name, tmp_path / name)
    line = ("-q", "-s", signer.keys.folder / "eve", "-I", "id", "-n", "ada@acme.org", tmp_path / "ada.pub")
    subprocess.run(["ssh-keygen", *line], check=True)
    signer.git("-c", f"user.signingkey={tmp_path / 'ada-cert.pub'}", "commit", "-q", "--allow-empty", "-S", "-m", "m")
    commit, key = signer.git("rev-parse", "HEAD"), signer.keys.text("eve")
    assert signer.verify(commit, ssh=signer.file(f"*@acme.org cert-authority {key}")).startswith("ada@acme.org ")
    signer.refused(commit, ssh=signer.file(f"*@other.org cert-authority {key}"))
    signer.refused(commit, ssh=signer.file(f"*@acme.org {key}"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello", "holds no public key"),
        ("ssh-ed25519", "holds no public key"),
        ("ssh-ed25519 AAAA", "damaged"),
        ("ssh-ed25519 ????", "damaged"),
        ("ssh-rsa KEY", "damaged"),
        ("ssh-ed25519-cert-v01@openssh.com KEY", "certificate"),
        ('expiry-time="20200101" ssh-ed25519 KEY', "are no names of signers"),
        ('ada no-pty,namespaces="git" ssh-ed25519 KEY', "is no option"),
    ],
)
def test_a_line_that_is_no_key_is_told(signer: Signer, line: str, reason: str) -> None:
    text = line.replace("KEY", signer.keys.text("ada").split()[1])
    with pytest.raises(ConfigError, match=rf"verify\.ssh: .*/allowed:2: .*{reason}"):
        signer.verify(signer.plain, ssh=signer.file(f"# keys\n{text}\n"))


def test_files_without_keys_are_told(signer: Signer) -> None:
    with pytest.raises(ConfigError, match=r"verify\.ssh: .* holds no key"):
        signer.verify(signer.plain, ssh=signer.file("# none\n"))
    with pytest.raises(ConfigError, match=r"verify\.ssh: /no/where cannot be read"):
        signer.verify(signer.plain, ssh=[Path("/no/where")])
    assert "nobody: no keys are configured" in signer.refused(signer.commit(), ssh=[]).message


def test_programs_that_are_missing_are_told(signer: Signer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = signer.commit()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(ConfigError, match="ssh-keygen is not installed"):
        signer.verify(commit)
    with pytest.raises(ConfigError, match="gpg is not installed"):
        signer.verify(commit, gpg=(signer.keys.public("ada"),))


# ---- tags ------------------------------------------------------------------------------------------------


def test_a_signed_tag_vouches_for_its_commit(signer: Signer) -> None:
    signer.git("tag", "-s", "-m", "one", "v1", signer.plain)
    signer.git("tag", "-s", "-m", "two", "v2", signer.plain, key="eve")
    signer.git("tag", "-a", "-m", "three", "v3", signer.plain)
    signer.git("tag", "v4", signer.plain)
    assert signer.verify(signer.plain, "v1").startswith("ada@example.org ")
    assert signer.verify(signer.plain, "refs/tags/v1").startswith("ada@example.org ")
    assert signer.verify(signer.plain, signer.git("rev-parse", "v1")).startswith("ada@example.org ")
    assert "tag v2 is signed with an SSH key that is not among them" in signer.refused(signer.plain, "v2").message
    error = signer.refused(signer.plain, "v3").message
    assert error.startswith(f"tag v3 is not signed; commit {signer.plain[:12]} is not signed; expected")
    assert signer.refused(signer.plain, "v4").message.startswith(f"commit {signer.plain[:12]} is not signed; expected")
    assert "tag v5 is not in" in signer.refused(signer.plain, "v5").message


def test_the_tag_that_a_mirror_found_vouches_for_its_commit(signer: Signer) -> None:
    signer.git("tag", "-s", "-m", "one", "v1.2.0", signer.plain)
    folder = signer.folder / "source" / "mirror"
    mirror = Mirror(folder, str(signer.repository.folder), Selection(), MirrorOptions())
    fetched = mirror.fetch("^1.0")
    rules = SourceVerify(ssh=(signer.keys.public("ada"),))
    signed = verify.verify(folder, fetched.commit, fetched.tag, rules, signer.scratch)
    assert signed.startswith("ada@example.org "), fetched.tag


def test_a_signed_commit_needs_no_signed_tag(signer: Signer) -> None:
    commit = signer.commit()
    signer.git("tag", "-a", "-m", "one", "v1", commit)
    assert signer.verify(commit, "v1").startswith("ada@example.org ")


def test_a_signed_tag_vouches_for_nothing_else(signer: Signer) -> None:
    signer.git("tag", "-s", "-m", "one", "v1", signer.plain)
    other = signer.repository.commit(1, {"a.py": "A = 2\n"})
    assert f"tag v1 is not of commit {other[:12]}" in signer.refused(other, "v1").message
    signer.git("update-ref", "refs/tags/v2", signer.git("rev-parse", "v1"))
    assert "tag v2 was made as 'v1'" in signer.refused(signer.plain, "v2").message
    moved = signer.raw("v1", "tag").replace(signer.plain.encode(), other.encode())
    signer.git("update-ref", "refs/tags/v1", signer.make(moved, "tag"))
    assert "tag v1 has a signature by" in signer.refused(other, "v1").message


# ---- GPG -------------------------------------------------------------------------------------------------


class Gpg:
    """GPG keys by name, in a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ada = self._made("ada")
        self.eve = self._made("eve")
        self.old = self._made("old", "20200101T000000!", "1d")
        self.gone = self._made("gone")
        self.revoked = self.export(self.gone)
        revocation = (home / "openpgp-revocs.d" / f"{self.gone}.rev").read_text()
        with self.revoked.open("a") as opened:
            opened.write(revocation.partition("\n:")[2])

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        line = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--passphrase", "", *arguments]
        return subprocess.run(line, input=stdin, check=True, capture_output=True).stdout

    def _made(self, name: str, time: str | None = None, lasts: str = "never") -> str:
        at = ("--faked-system-time", time) if time else ()
        line = ("--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", lasts)
        told = self.run("--status-fd", "1", *at, *line)
        return next(line.split()[3] for line in told.decode().splitlines() if "KEY_CREATED" in line)

    def export(self, key: str) -> Path:
        file = self.home / f"{key}.asc"
        file.write_bytes(self.run("--armor", "--export", key))
        return file

    def sign(self, key: str, payload: bytes, time: str | None = None) -> bytes:
        at = ("--faked-system-time", time) if time else ()
        return self.run(*at, "--armor", "--detach-sign", "-u", key, stdin=payload)


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    # The path of an agent's socket must be short.
    with tempfile.TemporaryDirectory(prefix="gpg") as home:
        os.chmod(home, 0o700)
        try:
            yield Gpg(Path(home))
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


@needs_gpg
def test_gpg_signatures_count_if_their_key_is_configured_and_good(signer: Signer, gpg: Gpg) -> None:
    payload, ada = signer.raw(signer.plain), gpg.export(gpg.ada)
    signer.scratch = signer.folder / ("too long for the path of a socket " * 5)

    def commit(signature: bytes, over: bytes = payload) -> str:
        return signer.make(with_header(over, header(signature)))

    def refused(commit: str, *files: Path) -> str:
        with pytest.raises(VerificationFailed) as told:
            signer.verify(commit, ssh=[], gpg=files or (ada,))
        return told.value.message

    good = gpg.sign(gpg.ada, payload)
    assert signer.verify(commit(good), ssh=[], gpg=(ada,)) == f"ada <ada@example.org> ({gpg.ada})"
    assert signer.verify(commit(good), gpg=(gpg.export(gpg.eve), ada)).startswith("ada ")
    told = refused(commit(gpg.sign(gpg.eve, payload)))
    assert f"is signed with a GPG key that is not among them, {gpg.eve[-16:]}" in told
    assert told.endswith(f"expected a signature by {gpg.ada}")
    assert "does not fit its content" in refused(commit(good, payload.replace(b"author A", b"author B")))
    old = gpg.sign(gpg.old, payload, "20200101T010000!")
    assert "which has expired" in refused(commit(old), gpg.export(gpg.old))
    assert "which is revoked" in refused(commit(gpg.sign(gpg.gone, payload)), gpg.revoked)
    inline = gpg.run("--armor", "--sign", "-u", gpg.ada, stdin=payload)
    assert "neither SSH nor GPG" in refused(commit(inline))
    fake = inline.replace(b"PGP MESSAGE", b"PGP SIGNATURE")
    assert f"commit {commit(fake)[:12]} has" in refused(commit(fake))
    packets = gpg.run("--detach-sign", "-u", gpg.ada, "-u", gpg.eve, stdin=payload)
    lines = (b"-----BEGIN PGP SIGNATURE-----", b"", base64.encodebytes(packets).strip(), b"-----END PGP SIGNATURE-----")
    assert f"not among them, {gpg.eve[-16:]}" in refused(commit(b"\n".join(lines)))
    assert "does not hold" in refused(commit(b"\n".join(lines)), ada, gpg.export(gpg.eve)), "two signatures are none"


@needs_gpg
def test_no_agent_of_gpg_is_left_running(signer: Signer, gpg: Gpg) -> None:
    payload = signer.raw(signer.plain)
    commit = signer.make(with_header(payload, header(gpg.sign(gpg.ada, payload))))
    with tempfile.TemporaryDirectory(prefix="s") as short:
        signer.scratch = Path(short)
        signer.verify(commit, ssh=[], gpg=(gpg.export(gpg.ada),))
        assert not [line for line in command_lines() if short.encode() in line]


@needs_gpg
def test_files_that_hold_no_gpg_keys_are_told(signer: Signer, gpg: Gpg) -> None:
    with pytest.raises(ConfigError, match=r"verify\.gpg: there is no file /no/where"):
        signer.verify(signer.plain, gpg=(Path("/no/where"),))
    for text in ("", "hello", gpg.sign(gpg.ada, b"x").decode()):
        (file,) = signer.file(text)
        with pytest.raises(ConfigError, match=r"verify\.gpg: .*allowed holds no public keys"):
            signer.verify(signer.plain, gpg=(gpg.export(gpg.ada), file))
