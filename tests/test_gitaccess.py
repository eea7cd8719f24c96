"""How git gets at a repository that asks who calls, and that nothing secret shows meanwhile or is left behind."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fnsync.configgit import SourceAuth
from fnsync.errors import AccessRefused, ConfigError, FetchFailed, FnsyncError
from fnsync.git import command, githubapp
from fnsync.git.access import GitAccess, access, unfit
from fnsync.git.addresses import parse
from fnsync.git.fetches import MirrorOptions
from fnsync.git.githubapp import GithubTokens
from fnsync.git.materialize import Selection
from fnsync.git.mirror import Mirror
from fnsync.git.refusals import refusal, refused
from fnsync.git.scratch import clean, private_folder
from tests.commandlines import command_lines
from tests.githosts_auth import (
    LOOPBACK,
    Certificates,
    FakeGithub,
    GuardedHost,
    SshHost,
    certificates,
    fake_github,
    guarded_host,
    ssh_host,
)
from tests.repositories import Repository

PASSWORD = "pa%ss w/ord'\"$HOME&é"
TOKEN = "glpat-0123456789"


def auth_of(root: Path | None = None, **values: Any) -> SourceAuth:
    return SourceAuth.model_validate(values, context={"root": root or Path.cwd()})


def token(name: str = "TOKEN", **more: Any) -> SourceAuth:
    return auth_of(token={"env": name}, **more)


class Hosts:
    """The hosts that all tests share, with one repository on each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.repository = folder / "served" / "acme.git"
        made = Repository(folder / "work")
        self.repository.parent.mkdir()
        (self.repository.parent / "moved").symlink_to(".")
        self.commit = made.commit(0, {"a.py": "A = 1\n"})
        subprocess.run(["git", "clone", "-q", "--bare", made.folder, self.repository], check=True)
        self.certificates: Certificates = certificates(folder / "tls")
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.plain: GuardedHost = stack.enter_context(guarded_host(folder / "served"))
        self.tls: GuardedHost = stack.enter_context(guarded_host(folder / "served", self.certificates))
        self.ssh: SshHost = stack.enter_context(ssh_host(self.key))
        self.app_key = rsa.generate_private_key(65537, 2048)
        self.github: FakeGithub = stack.enter_context(fake_github(7, 99, self.app_key.public_key()))

    @property
    def app_pem(self) -> str:
        return self.app_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode()

    def app_auth(self, **changes: Any) -> SourceAuth:
        app = {"id": 7, "installation": 99, "key": {"env": "KEY"}, "api": self.github.url, **changes}
        return auth_of(github_app=app)


@pytest.fixture(scope="module")
def all_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(tmp_path_factory.mktemp("hosts"), stack)


@pytest.fixture
def hosts(all_hosts: Hosts) -> Hosts:
    """The hosts as they are at first: one login, nobody is sent on."""
    for host in (all_hosts.plain, all_hosts.tls):
        host.logins, host.redirect, host.redirect_first, host.status = {"oauth2": TOKEN}, None, None, None
        host.shown.clear()
        host.gate.set()
        host.waiting.clear()
    github = all_hosts.github
    github.instead, github.lasts_s, github.token = None, 3600.0, "ghs_the-token-of-the-app"
    github.asked.clear()
    all_hosts.ssh.commands.clear()
    return all_hosts


class Caller:
    """Runs git with what `access` gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"

    def git(self, given: GitAccess, *arguments: str, **variables: str) -> command.Done:
        options = ("-c", "protocol.version=2", *given.options)
        return command.attempt(self.folder, *options, *arguments, variables={**given.variables, **variables})

    def ls(self, auth: SourceAuth, url: str, environ: Mapping[str, str], **variables: str) -> command.Done:
        """Ask for the branches, as a source's fetch would begin."""
        with access(auth, url, environ, self.scratch) as given:
            done = self.git(given, "ls-remote", url, **variables)
            text = given.redacted(done.said, url)
        assert not list(self.scratch.glob("*")), "something stays in scratch"
        return command.Done(done.code, done.output, text)


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


# ---- passwords and tokens --------------------------------------------------------------------------------


def test_a_token_opens_a_repository_over_tls(hosts: Hosts, caller: Caller) -> None:
    url = hosts.tls.url("acme.git")
    done = caller.ls(token(), url, {"TOKEN": f"{TOKEN}\n"}, GIT_SSL_CAINFO=str(hosts.certificates.ca))
    assert done.code == 0, done.said
    assert hosts.commit in done.output.decode()


def test_a_password_may_have_any_characters(hosts: Hosts, caller: Caller) -> None:
    hosts.plain.logins = {"ada love": PASSWORD}
    auth = auth_of(username="ada love", password={"env": "PW"})
    done = caller.ls(auth, hosts.plain.url("acme.git"), {"PW": PASSWORD})
    assert done.code == 0, done.said


@pytest.mark.parametrize(
    ("url", "more", "user"),
    [
        ("https://github.com/a/b", {}, "x-access-token"),
        ("https://gitlab.com/a/b", {}, "oauth2"),
        ("https://bitbucket.org/a/b", {}, "x-token-auth"),
        ("https://deploy@gitlab.com/a/b", {}, "deploy"),
        ("https://deploy@gitlab.com/a/b", {"username": "ada"}, "ada"),
    ],
)
def test_beside_a_token_stands_the_user_that_the_host_wants(
    caller: Caller, url: str, more: dict[str, str], user: str
) -> None:
    with access(token(**more), url, {"TOKEN": TOKEN}, caller.scratch) as given:
        host = parse(url).host
        asked = f"protocol=https\nhost={host}\n\n".encode()
        line = (*given.options, "credential", "fill")
        done = command.attempt(caller.folder, *line, stdin=asked, variables=given.variables)
    assert f"username={user}\npassword={TOKEN}\n" in done.output.decode()


def test_the_helpers_of_the_operator_are_neither_asked_nor_told(hosts: Hosts, caller: Caller, tmp_path: Path) -> None:
    url, told = hosts.plain.url("acme.git"), tmp_path / "told"
    config = tmp_path / "gitconfig"
    helper = f"!f() {{ echo $1 >> '{told}'; cat >> '{told}'; echo username=u; echo password=p; }}; f"
    for key in ("credential.helper", f"credential.{hosts.plain.address}.helper"):
        subprocess.run(["git", "config", "-f", config, "--add", key, helper], check=True)
    variables = {"GIT_CONFIG_GLOBAL": str(config)}
    assert caller.ls(token(), url, {"TOKEN": TOKEN}, **variables).code == 0
    assert caller.ls(token(), url, {"TOKEN": "wrong"}, **variables).code != 0
    assert not told.exists()
    assert caller.ls(auth_of(), url, {}, **variables).code != 0
    assert "get" in told.read_text(), "without credentials of the source, git's own are used"


def test_a_wrong_token_is_told_with_its_key_and_without_itself(hosts: Hosts, caller: Caller) -> None:
    url = hosts.plain.url("acme.git")
    done = caller.ls(token(), url, {"TOKEN": "wrong-token"})
    assert refusal(done.said) == "the login was refused"
    error = refused(done.said, url, token())
    assert error is not None
    assert error.message == f"{url}: the login was refused (auth.token)"
    assert "wrong-token" not in done.said


def test_a_fetch_that_fails_for_a_refusal_is_told_as_one(caller: Caller) -> None:
    said = "main cannot be fetched: fatal: Authentication failed for 'https://h/a'"
    with pytest.raises(AccessRefused) as told, access(token(), "https://h/a", {"TOKEN": TOKEN}, caller.scratch):
        raise FetchFailed(said)
    assert told.value.message == "https://h/a: the login was refused (auth.token)"
    assert (told.value.code, told.value.reason) == ("access_refused", "refused")
    with (
        pytest.raises(FetchFailed, match="no branch main") as other,
        access(token(), "https://h/a", {"TOKEN": TOKEN}, caller.scratch),
    ):
        raise FetchFailed("https://h/a has no branch main")
    assert not isinstance(other.value, AccessRefused)


def test_what_else_a_host_refuses_is_told_apart(hosts: Hosts, caller: Caller) -> None:
    url = hosts.plain.url("acme.git")
    assert refusal(caller.ls(auth_of(), url, {}).said) == "a login is asked for, and there is none"
    hosts.plain.status = 403
    assert refusal(caller.ls(token(), url, {"TOKEN": TOKEN}).said) == "access is forbidden"
    hosts.plain.status = 404
    assert "no such repository" in str(refusal(caller.ls(token(), url, {"TOKEN": TOKEN}).said))
    hosts.plain.status = 500
    assert refusal(caller.ls(token(), url, {"TOKEN": TOKEN}).said) is None
    done = caller.ls(token(), hosts.tls.url("acme.git"), {"TOKEN": TOKEN})
    assert refusal(done.said) == "the host's certificate is not trusted"
    assert hosts.tls.shown == [], "nothing is sent to a host that nobody vouches for"


def test_nothing_shows_in_any_command_line_while_git_runs(hosts: Hosts, caller: Caller) -> None:
    host, url, seen = hosts.plain, hosts.plain.url("acme.git"), list[bytes]()
    host.gate.clear()
    mirror = caller.folder / "mirror"
    subprocess.run(["git", "init", "-q", "--bare", mirror], check=True)

    def look() -> None:
        host.waiting.wait(20)
        seen.extend(command_lines())
        host.gate.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    with access(token(), url, {"TOKEN": TOKEN}, caller.scratch) as given:
        done = command.attempt(mirror, *given.options, "fetch", "-q", url, "main", variables=given.variables)
    watcher.join()
    assert done.code == 0, done.said
    basic = base64.b64encode(f"oauth2:{TOKEN}".encode())
    assert any(url.encode() in line for line in seen), "git did not run meanwhile"
    assert not [line for line in seen if TOKEN.encode() in line or basic in line]
    kept = [file for file in mirror.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert kept == []


def test_a_mirror_is_fetched_with_a_token_and_keeps_none(hosts: Hosts, caller: Caller) -> None:
    url, folder = hosts.plain.url("acme.git"), caller.folder / "source" / "mirror"
    mirror = Mirror(folder, url, Selection("functions"), MirrorOptions())
    with access(token(), url, {"TOKEN": TOKEN}, caller.scratch) as given:
        commit = mirror.fetch("main", given).commit
        made = mirror.materialize(commit, caller.folder / "tree", access=given)
    assert commit == hosts.commit
    assert made.folder.joinpath("a.py").read_text() == "A = 1\n"
    assert not [file for file in folder.parent.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    with pytest.raises(AccessRefused) as told, access(token(), url, {"TOKEN": "wrong"}, caller.scratch) as given:
        mirror.fetch("main", given)
    assert told.value.message == f"{url}: the login was refused (auth.token)"
    assert told.value.reason == "refused"


@pytest.mark.parametrize("when", ["redirect", "redirect_first"])
def test_a_host_that_one_is_sent_on_to_gets_no_credentials(hosts: Hosts, caller: Caller, when: str) -> None:
    setattr(hosts.plain, when, hosts.tls.address)
    hosts.tls.logins = {"oauth2": TOKEN}
    variables = {"GIT_SSL_CAINFO": str(hosts.certificates.ca)}
    done = caller.ls(token(), hosts.plain.url("acme.git"), {"TOKEN": TOKEN}, **variables)
    assert done.code != 0
    assert hosts.tls.shown, "it was not sent on"
    assert set(hosts.tls.shown) == {None}


def test_a_repository_that_moved_on_its_host_is_followed(hosts: Hosts, caller: Caller) -> None:
    hosts.plain.redirect_first = f"{hosts.plain.address}/moved"
    done = caller.ls(token(), hosts.plain.url("acme.git"), {"TOKEN": TOKEN})
    assert done.code == 0, done.said


def test_secrets_do_not_come_out_of_redaction(hosts: Hosts, caller: Caller) -> None:
    basic = base64.b64encode(b"oauth2:a/b c").decode()
    with access(token(), "https://h/r", {"TOKEN": "a/b c"}, caller.scratch) as given:
        assert given.redacted(f"x a/b c y a%2Fb%20c z {basic}") == "x *** y *** z ***"
        assert "a/b c" not in repr(given)


def test_traces_of_git_show_no_credentials(hosts: Hosts, caller: Caller) -> None:
    basic = base64.b64encode(f"oauth2:{TOKEN}".encode()).decode()
    url = hosts.plain.url("acme.git")
    with access(token(), url, {"TOKEN": TOKEN}, caller.scratch) as given:
        done = caller.git(given, "ls-remote", url, GIT_TRACE="1", GIT_CURL_VERBOSE="1")
    assert done.code == 0
    assert TOKEN not in done.said and basic not in done.said


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", "there is no such repository"),
        ("ERROR: The project you were looking for could not be found or you don't", "there is no such repository"),
        ("ERROR: Permission to acme/functions.git denied to deploy key", "access is forbidden"),
        ("git@github.com: Permission denied (publickey).", "the login was refused"),
        ("server certificate verification failed. CAfile: none CRLfile: none", "the host's certificate"),
        ('Load key "/k": error in libcrypto\ngit@h: Permission denied (publickey).', "ssh cannot use the private key"),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", "None"),
        ("ssh: connect to host h port 22: Connection refused", "None"),
        ("fatal: couldn't find remote ref refs/heads/x", "None"),
    ],
)
def test_what_hosts_say_is_told_apart(said: str, reason: str) -> None:
    assert str(refusal(said)).startswith(reason)


def test_what_a_kill_left_in_scratch_is_removed_and_nothing_else(caller: Caller) -> None:
    with private_folder(caller.scratch) as folder:
        kept = caller.scratch / "other"
        kept.mkdir()
        (folder / "key").touch()
        clean(caller.scratch)
        assert [kept] == list(caller.scratch.iterdir())


# ---- what does not fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "key", "reason"),
    [
        ("http://git.example.org/a", "token", "only sent over https"),
        ("http://localhost.example.org/a", "token", "only sent over https"),
        ("ssh://git@h/a", "token", "is for https"),
        ("git@h:a/b", "token", "is for https"),
        ("file:///srv/a", "token", "is for https"),
        ("/srv/a", "token", "is for https"),
        ("git://h/a", "token", "is for https"),
        ("https://a b/x", "token", "is for https"),
        ("https://h/a", "ssh_key", "is for ssh"),
        ("./a:b", "ssh_key", "is for ssh"),
        ("git://h/a", "ssh_key", "is for ssh"),
        ("https://[::1/a", "token", "is for https"),
    ],
)
def test_credentials_are_only_for_addresses_of_their_kind(caller: Caller, url: str, key: str, reason: str) -> None:
    auth = auth_of(**{key: {"env": "X"}})
    with (
        pytest.raises(ConfigError, match=rf"sources\[acme\]\.auth\.{key}: .*{reason}"),
        access(auth, url, {"X": "secret"}, caller.scratch, named="sources[acme].auth"),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://git.example.org/a", "token"),
        ("http://127.0.0.1:1/a", "token"),
        ("http://[::1]:1/a", "token"),
        ("http://localhost/a", "token"),
        ("git@h:a/b", "ssh_key"),
        ("[::1]:a", "ssh_key"),
        ("ssh://h:22/a", "ssh_key"),
        ("git+ssh://h/a", "ssh_key"),
    ],
)
def test_credentials_fit_addresses_of_their_kind(url: str, key: str) -> None:
    assert unfit(auth_of(**{key: {"env": "X"}}), url) is None


@pytest.mark.parametrize("value", ["two\nlines", "a\x07b", "   "])
def test_a_token_is_one_line(caller: Caller, value: str) -> None:
    with (
        pytest.raises(ConfigError, match="auth.token: must be one line") as told,
        access(token(), "https://h/a", {"TOKEN": value}, caller.scratch),
    ):
        pass
    assert value not in str(told.value) and value not in str(told.value.hint)


def test_a_user_name_is_one_line() -> None:
    auth = auth_of(username="a\nhost=h", password={"env": "X"})
    assert unfit(auth, "https://h/a") == ".username: must be one line of text"


def test_a_secret_that_is_not_there_is_told_with_its_key(caller: Caller) -> None:
    with (
        pytest.raises(ConfigError, match="auth.token: the environment variable TOKEN is not set"),
        access(token(), "https://h/a", {}, caller.scratch),
    ):
        pass


def test_without_credentials_git_is_left_as_it_is(caller: Caller) -> None:
    for url in ("https://h/a", "git@h:a", "/srv/a"):
        with access(auth_of(), url, {}, caller.scratch) as given:
            assert given.options == ()
            assert "GIT_SSH_COMMAND" not in given.variables


# ---- ssh -------------------------------------------------------------------------------------------------


def private(key: asyncssh.SSHKey) -> str:
    return key.export_private_key().decode()


def pem(label: str, body: str) -> str:
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


@pytest.fixture
def known(hosts: Hosts, tmp_path: Path) -> Path:
    """The host's key in a file whose path needs quotes."""
    file = tmp_path / "known 100% hosts"
    file.write_text(hosts.ssh.known_hosts())
    return file


def test_a_key_of_the_environment_is_a_file_for_nobody_else_and_only_meanwhile(
    hosts: Hosts, caller: Caller, known: Path
) -> None:
    auth = auth_of(ssh_key={"env": "KEY"}, known_hosts=str(known))
    environ = {"KEY": private(hosts.key).strip()}
    with access(auth, hosts.ssh.url(hosts.repository), environ, caller.scratch) as given:
        (file,) = [file for file in caller.scratch.rglob("*") if file.is_file()]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert not [value for value in (*given.variables.values(), *given.options) if "PRIVATE" in value]
        done = caller.git(given, "ls-remote", hosts.ssh.url(hosts.repository))
    assert done.code == 0, done.said
    assert hosts.commit in done.output.decode()
    assert not list(caller.scratch.glob("*"))


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_key_file_is_used_where_it_is_unless_ssh_would_not_take_it(
    hosts: Hosts, caller: Caller, known: Path, mode: int, ends: str
) -> None:
    file = caller.folder / "key 100%"
    file.write_bytes(private(hosts.key).replace("\n", ends).encode())
    file.chmod(mode)
    auth = auth_of(ssh_key={"file": str(file)}, known_hosts=str(known))
    with access(auth, hosts.ssh.url(hosts.repository), {}, caller.scratch) as given:
        copies = [file for file in caller.scratch.rglob("*") if file.is_file()]
        assert bool(copies) == (mode != 0o600 or ends != "\n")
        assert caller.git(given, "ls-remote", hosts.ssh.url(hosts.repository)).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_key_that_is_not_let_in_is_told(hosts: Hosts, caller: Caller, known: Path) -> None:
    auth = auth_of(ssh_key={"env": "KEY"}, known_hosts=str(known))
    url = hosts.ssh.url(hosts.repository)
    done = caller.ls(auth, url, {"KEY": private(asyncssh.generate_private_key("ssh-ed25519"))})
    error = refused(done.said, url, auth)
    assert error is not None, done.said
    assert error.message.endswith(": the login was refused (auth.ssh_key)")


def test_a_host_that_is_not_known_is_told_with_what_makes_it_known(hosts: Hosts, caller: Caller, known: Path) -> None:
    known.write_text("")
    auth = auth_of(ssh_key={"env": "KEY"}, known_hosts=str(known))
    url = hosts.ssh.url(hosts.repository)
    done = caller.ls(auth, url, {"KEY": private(hosts.key)})
    error = refused(done.said, url, auth)
    assert error is not None, done.said
    assert f"the host's key is not known ({LOOPBACK}, port {hosts.ssh.port}, in {known})" in error.message
    assert f"ssh-keyscan -p {hosts.ssh.port} {LOOPBACK} >> {known}" in (error.hint or "")
    assert known.read_text() == "", "nobody's key was written down"


def test_a_host_that_shows_another_key_is_told(hosts: Hosts, caller: Caller, known: Path) -> None:
    known.write_text(hosts.ssh.known_hosts(asyncssh.generate_private_key("ssh-ed25519")))
    auth = auth_of(ssh_key={"env": "KEY"}, known_hosts=str(known))
    url = hosts.ssh.url(hosts.repository)
    done = caller.ls(auth, url, {"KEY": private(hosts.key)})
    assert refusal(done.said) == "the host shows another key than the one that is known"
    assert hosts.ssh.commands == []


def test_known_hosts_count_beside_the_keys_that_ssh_finds_itself(hosts: Hosts, caller: Caller, known: Path) -> None:
    known.write_text("")
    url = hosts.ssh.url(hosts.repository)
    done = caller.ls(auth_of(known_hosts=str(known)), url, {})
    assert refusal(done.said) == "the host's key is not known"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ssh-ed25519 AAAA ada", "is a public key"),
        ("hello", "is no private key"),
        (pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nAAAA"), "passphrase"),
        (pem("ENCRYPTED PRIVATE KEY", "AAAA"), "passphrase"),
        (pem("OPENSSH PRIVATE KEY", base64.b64encode(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr").decode()), "passphrase"),
    ],
)
def test_what_is_no_key_that_can_be_used_is_told(caller: Caller, text: str, reason: str) -> None:
    auth = auth_of(ssh_key={"env": "KEY"})
    with (
        pytest.raises(ConfigError, match=rf"auth\.ssh_key: .*{reason}"),
        access(auth, "git@h:a", {"KEY": text}, caller.scratch),
    ):
        pass
    assert not list(caller.scratch.glob("*"))


def test_a_key_may_come_with_its_line_ends_written_out(caller: Caller) -> None:
    key = private(asyncssh.generate_private_key("ssh-ed25519"))
    auth = auth_of(ssh_key={"env": "KEY"})
    with access(auth, "git@h:a", {"KEY": key.strip().replace("\n", "\\n")}, caller.scratch):
        (file,) = [file for file in caller.scratch.rglob("*") if file.is_file()]
        assert file.read_text() == key


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a${HOME}"])
def test_paths_that_ssh_cannot_be_told_are_refused(caller: Caller, name: str) -> None:
    file = caller.folder / name
    file.touch()
    with (
        pytest.raises(ConfigError, match="auth.known_hosts: ssh cannot be told"),
        access(auth_of(known_hosts=str(file)), "git@h:a", {}, caller.scratch),
    ):
        pass


def test_a_known_hosts_file_that_is_not_there_is_told(caller: Caller) -> None:
    auth = auth_of(caller.folder, known_hosts="nowhere")
    with (
        pytest.raises(ConfigError, match=r"auth\.known_hosts: the file .*nowhere cannot be read"),
        access(auth, "git@h:a", {}, caller.scratch),
    ):
        pass


@pytest.mark.skipif(shutil.which("sshd") is None, reason="no sshd on this machine")
def test_the_sshd_of_this_machine_is_spoken_to_as_well(hosts: Hosts, caller: Caller) -> None:
    folder = caller.folder
    key, host_key = folder / "key", folder / "host_key"
    for file in (key, host_key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    sshd, authorized = shutil.which("sshd"), folder / "key.pub"
    options = ("-o", f"AuthorizedKeysFile={authorized}", "-o", "StrictModes=no", "-o", "UsePAM=no")
    # It speaks over its standard input, as inetd would have it.
    proxy = f"{sshd} -i -e -f /dev/null -h {host_key} {' '.join(options)}"
    known = folder / "known"
    known.write_text(f"sshd.test {host_key.with_suffix('.pub').read_text()}")
    if os.getuid() == 0:  # where it leaves its privileges
        Path("/run/sshd").mkdir(exist_ok=True)
    auth = auth_of(ssh_key={"file": str(key)}, known_hosts=str(known))
    url = f"ssh://{os.environ.get('USER', 'root')}@sshd.test{hosts.repository}"
    with access(auth, url, {}, caller.scratch) as given:
        line = f'{given.variables["GIT_SSH_COMMAND"]} -o "ProxyCommand={proxy}"'
        done = caller.git(given, "ls-remote", url, GIT_SSH_COMMAND=line)
    assert done.code == 0, done.said


# ---- GitHub Apps -----------------------------------------------------------------------------------------


def test_an_app_gets_a_token_and_is_let_in_with_it(hosts: Hosts, caller: Caller) -> None:
    hosts.plain.logins = {"x-access-token": hosts.github.token}
    tokens, url = GithubTokens(), hosts.plain.url("acme.git")
    for _ in range(2):
        with access(hosts.app_auth(), url, {"KEY": hosts.app_pem}, caller.scratch, tokens=tokens) as given:
            done = caller.git(given, "ls-remote", url)
        assert done.code == 0, done.said
    assert hosts.github.asked == [{"permissions": {"contents": "read"}}], "it is asked for once"
    with access(hosts.app_auth(), url, {"KEY": hosts.app_pem}, caller.scratch, tokens=tokens, write=True):
        assert hosts.github.asked[-1] == {"permissions": {"contents": "write"}}


def test_a_token_is_asked_for_anew_five_minutes_before_its_end(hosts: Hosts) -> None:
    tokens, app, environ = GithubTokens(), hosts.app_auth().github_app, {"KEY": hosts.app_pem.replace("\n", "\\n")}
    assert app is not None
    hosts.github.lasts_s = githubapp.MARGIN_S - 1
    tokens.token(app, environ)
    hosts.github.lasts_s = githubapp.MARGIN_S + 60
    tokens.token(app, environ)
    tokens.token(app, environ)
    assert len(hosts.github.asked) == 2


def test_a_token_that_is_refused_is_not_used_again(hosts: Hosts, caller: Caller) -> None:
    tokens, url, environ = GithubTokens(), hosts.plain.url("acme.git"), {"KEY": hosts.app_pem}
    with pytest.raises(AccessRefused), access(hosts.app_auth(), url, environ, caller.scratch, tokens=tokens):
        raise FetchFailed(f"it failed: fatal: Authentication failed for '{url}'")
    with access(hosts.app_auth(), url, environ, caller.scratch, tokens=tokens):
        assert len(hosts.github.asked) == 2


def test_many_sources_of_one_app_ask_once(hosts: Hosts) -> None:
    tokens, app, environ = GithubTokens(), hosts.app_auth().github_app, {"KEY": hosts.app_pem}
    assert app is not None
    threads = [threading.Thread(target=tokens.token, args=(app, environ)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hosts.github.asked) == 1


def told_of(hosts: Hosts, environ: Mapping[str, str], **changes: Any) -> FnsyncError:
    app = hosts.app_auth(**changes).github_app
    assert app is not None
    with pytest.raises(FnsyncError) as told:
        GithubTokens().token(app, environ)
    text = f"{told.value} {told.value.hint}"
    assert "PRIVATE" not in text and "Bearer" not in text and hosts.github.token not in text
    return told.value


def test_what_github_refuses_is_told(hosts: Hosts) -> None:
    environ = {"KEY": hosts.app_pem}
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    error = told_of(hosts, {"KEY": other.decode()})
    assert isinstance(error, AccessRefused) and "the key is not one of app 7" in error.message
    error = told_of(hosts, environ, installation=100)
    assert isinstance(error, AccessRefused) and "app 7 has no installation 100" in error.message
    hosts.github.instead = (403, b'{"message": "This installation has been suspended"}')
    error = told_of(hosts, environ)
    assert isinstance(error, AccessRefused) and "This installation has been suspended" in error.message
    for status, body in ((503, b"<html>"), (201, b"[]"), (201, b'{"token": "a\\nb"}'), (201, b"x" * 100_000)):
        hosts.github.instead = (status, body)
        error = told_of(hosts, environ)
        assert isinstance(error, FetchFailed) and not isinstance(error, AccessRefused)
    hosts.github.instead = (302, b"")
    assert "answered 302" in told_of(hosts, environ).message
    error = told_of(hosts, environ, api="http://127.0.0.1:1")
    assert isinstance(error, FetchFailed) and "http://127.0.0.1:1 cannot be reached" in error.message


@pytest.mark.parametrize("kind", ["text", "ed25519"])
def test_a_key_that_no_app_has_is_told(hosts: Hosts, kind: str) -> None:
    error = told_of(hosts, {"KEY": "hello" if kind == "text" else private(hosts.key)})
    assert isinstance(error, ConfigError)
    assert error.message.startswith("auth.github_app.key: is no private key that GitHub gives")


def test_an_app_shows_itself_over_https_only(hosts: Hosts) -> None:
    auth = hosts.app_auth(api="http://github.example.org/api/v3")
    assert (unfit(auth, "https://github.example.org/a/b") or "").startswith(".github_app.api: must be https")
