"""Git hosts that ask who calls: HTTP with a password and TLS, ssh, and GitHub's tokens for apps."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import json
import shlex
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncssh
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.githosts import LOOPBACK, GitHandler, HttpGitHost

# ---- TLS -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """A CA that nobody knows, and a certificate of it for this machine."""

    ca: Path
    context: ssl.SSLContext


def certificates(folder: Path) -> Certificates:
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)

    def signed(name: str, issuer: str, key: Any, by: Any, extension: x509.ExtensionType) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=True)
            .sign(by, hashes.SHA256())
        )

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = signed("Test CA", "Test CA", authority, authority, x509.BasicConstraints(ca=True, path_length=0))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK)), x509.DNSName("localhost")])
    leaf = signed("localhost", "Test CA", key, authority, names)
    ca, pair = folder / "ca.pem", folder / "server.pem"
    ca.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair.write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return Certificates(ca, context)


# ---- HTTP ------------------------------------------------------------------------------------------------


@dataclass
class GuardedHost(HttpGitHost):
    """A host that asks who calls. What it asks for and does may be changed at any time."""

    #: Without a slash at the end.
    address: str = ""
    #: user -> password; None: everybody is let in.
    logins: dict[str, str] | None = None
    #: Where it sends callers on to, once they are let in.
    redirect: str | None = None
    #: Where it sends them on to before they are.
    redirect_first: str | None = None
    #: The status of every answer, where it is to refuse.
    status: int | None = None
    #: Cleared: the contents of a repository wait.
    gate: threading.Event = field(default_factory=threading.Event)
    #: Set when something waits.
    waiting: threading.Event = field(default_factory=threading.Event)
    #: What each request had as Authorization.
    shown: list[str | None] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def allows(self, header: str | None) -> bool:
        if self.logins is None:
            return True
        kind, _, value = (header or "").partition(" ")
        user, _, password = base64.b64decode(value).decode().partition(":") if kind == "Basic" else ("", "", "")
        return user in self.logins and self.logins[user] == password


class _GuardedHandler(GitHandler):
    owner: GuardedHost

    def serve(self, body: bytes) -> None:
        host, header = self.owner, self.headers.get("Authorization")
        host.shown.append(header)
        if host.redirect_first is not None and not self.path.startswith("/moved"):
            return self.answer(302, {"Location": host.redirect_first + self.path})
        if not host.allows(header):
            return self.answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"who are you?")
        if host.redirect is not None:
            return self.answer(302, {"Location": host.redirect + self.path})
        if host.status is not None:
            return self.answer(host.status, {})
        if self.command == "POST" and not host.gate.is_set():
            host.waiting.set()
            host.gate.wait(20)
        super().serve(body)


@contextmanager
def guarded_host(folder: Path, tls: Certificates | None = None) -> Iterator[GuardedHost]:
    host = GuardedHost(folder)
    host.gate.set()
    handler = type("Handler", (_GuardedHandler,), {"owner": host})
    with _served(handler, tls) as url:
        host.address = url
        yield host


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler], tls: Certificates | None = None) -> Iterator[str]:
    server = ThreadingHTTPServer((LOOPBACK, 0), handler)
    if tls is not None:
        server.socket = tls.context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ---- ssh -------------------------------------------------------------------------------------------------


@dataclass
class SshHost:
    """A real ssh server that runs git for those whose keys it knows."""

    port: int
    host_key: asyncssh.SSHKey
    #: What was run.
    commands: list[str]

    def url(self, repository: Path) -> str:
        return f"ssh://git@{LOOPBACK}:{self.port}{repository}"

    def known_hosts(self, key: asyncssh.SSHKey | None = None) -> str:
        public = (key or self.host_key).export_public_key().decode()
        return f"[{LOOPBACK}]:{self.port} {public}"


async def _pump(source: Any, target: Any) -> None:
    while data := await source.read(64 * 1024):
        target.write(data)
        await target.drain()


@contextmanager
def ssh_host(*allowed: asyncssh.SSHKey) -> Iterator[SshHost]:
    """`allowed`: whom it lets in."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    commands: list[str] = []

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        commands.append(process.command or "")
        program, *arguments = shlex.split(process.command or "")
        git = await asyncio.create_subprocess_exec(
            *("git", program.removeprefix("git-")),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert git.stdin is not None and git.stdout is not None and git.stderr is not None
        asking = asyncio.create_task(_pump(process.stdin, git.stdin))
        await asyncio.gather(_pump(git.stdout, process.stdout), _pump(git.stderr, process.stderr))
        code = await git.wait()
        asking.cancel()
        process.exit(code)

    keys = asyncssh.import_authorized_keys("".join(key.export_public_key().decode() for key in allowed))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(
            asyncssh.SSHServer,
            LOOPBACK,
            0,
            server_host_keys=[host_key],
            authorized_client_keys=keys,
            process_factory=serve,
            encoding=None,
        )

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield SshHost(server.get_port(), host_key, commands)
    finally:

        async def stop() -> None:
            server.close()
            await server.wait_closed()

        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# ---- GitHub's tokens -------------------------------------------------------------------------------------


@dataclass
class FakeGithub:
    """The one route of GitHub's API that gives tokens to apps; it checks what an app shows."""

    app: int
    installation: int
    public_key: Any
    url: str = ""
    token: str = "ghs_the-token-of-the-app"
    lasts_s: float = 3600.0
    #: What it answers instead: status and body.
    instead: tuple[int, bytes] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, path: str, header: str, body: bytes) -> tuple[int, bytes]:
        if self.instead is not None:
            return self.instead
        try:
            shown = header.removeprefix("Bearer ")
            claims = jwt.decode(shown, self.public_key, algorithms=["RS256"], issuer=str(self.app))
        except jwt.PyJWTError:
            return 401, b'{"message": "A JSON web token could not be decoded"}'
        if claims["exp"] - claims["iat"] > 600:
            return 401, b"{\"message\": \"'Expiration time' claim ('exp') is too far in the future\"}"
        if path != f"/app/installations/{self.installation}/access_tokens":
            return 404, b'{"message": "Not Found"}'
        self.asked.append(json.loads(body))
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.lasts_s)
        return 201, json.dumps({"token": self.token, "expires_at": f"{end:%Y-%m-%dT%H:%M:%SZ}"}).encode()


@contextmanager
def fake_github(app: int, installation: int, public_key: Any) -> Iterator[FakeGithub]:
    api = FakeGithub(app, installation, public_key)

    class Handler(GitHandler):
        def serve(self, body: bytes) -> None:
            status, content = api.answer(self.path, self.headers.get("Authorization", ""), body)
            self.answer(status, {"Content-Type": "application/json"}, content)

    with _served(Handler) as url:
        api.url = url
        yield api
