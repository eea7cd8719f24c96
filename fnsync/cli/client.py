"""Talks to a running server: finds its address and a token, and turns its answers into values or errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from fnsync.cli.exits import NoServer
from fnsync.errors import FnsyncError, NotFound, Unauthorized

if TYPE_CHECKING:
    import httpx

    from fnsync.config import Config

#: How long the server may take to accept a connection, in seconds.
CONNECT_S = 5.0
#: Addresses that mean every interface, and the one to call instead.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

#: Variables that hold a token, the first that is set counts.
TOKEN_VARIABLES = ("FNSYNC_TOKEN", "FNSYNC_ADMIN_TOKEN")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and its process if it runs here."""

    url: str
    #: None: not known, since the address was given.
    pid: int | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK


def find_server(data: Path, url: str | None = None) -> Address:
    """Return the address given, or that of the server running on this data folder. Raises NoServer."""
    if url:
        if not url.startswith(("http://", "https://")):
            url = f"http://{url}"
        return Address(_reachable(url))
    try:
        found = json.loads((data / "server.json").read_text(encoding="utf-8"))
        return Address(_reachable(str(found["url"])), int(found["pid"]))
    except FileNotFoundError as exc:
        raise NoServer(f"no server is running on {data}", hint="start it with: fnsync serve") from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise NoServer(f"{data / 'server.json'} cannot be read: {exc}", hint="name the server with --url") from exc


def find_token(data: Path, address: Address, given: str | None, environ: Mapping[str, str]) -> str:
    """Return the token to use. Raises Unauthorized when there is none.

    The admin token of this machine goes to a server on this machine only.
    """
    for token in (given, *(environ.get(name) for name in TOKEN_VARIABLES)):
        if token:
            return token
    if address.is_local:
        try:
            return (data / "admin-token").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise Unauthorized(
                f"{data / 'admin-token'} cannot be read: {exc.strerror}",
                hint="give a token with --token or $FNSYNC_TOKEN",
            ) from exc
    raise Unauthorized(
        f"there is no token for {address.url}",
        hint="give one with --token or $FNSYNC_TOKEN; `fnsync token create` makes one where the server runs",
    )


class Client:
    """Requests to one server. Raises NoServer, Unauthorized, NotFound, or FnsyncError for other bad answers."""

    def __init__(self, address: Address, token: str) -> None:
        import httpx  # start time

        self._address = address
        self._http = httpx.Client(
            base_url=address.url,
            headers={"Authorization": f"Bearer {token}"},
            # A function's own time limit decides how long an answer takes.
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            # Loading certificates costs start time, and proxies are of no use on this machine.
            verify=address.url.startswith("https://"),
            trust_env=not address.is_local,
        )

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of an answer."""
        with self._reached():
            response = self._http.get(path, params=parameters)
        self._check(response)
        try:
            return response.json()
        except ValueError as exc:
            raise FnsyncError(f"{self._address.url} does not answer like a fnsync server") from exc

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Return the answer to `body` as JSON."""
        with self._reached():
            response = self._http.post(path, json=body, headers=headers)
        self._check(response)
        return response

    def delete(self, path: str) -> None:
        """Have something removed."""
        with self._reached():
            response = self._http.delete(path)
        self._check(response)

    @contextmanager
    def stream(self, method: str, path: str, *, body: Any = None, **parameters: Any) -> Iterator[Iterator[str]]:
        """Give the lines of an answer as they arrive."""
        with (
            self._reached(),
            self._http.stream(method, path, json=body, params=parameters) as response,
        ):
            if response.is_error:
                response.read()
                self._check(response)
            yield response.iter_lines()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """The one door for httpx's errors."""
        import httpx  # start time

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            was = f" (pid {self._address.pid}, as server.json says)" if self._address.pid else ""
            raise NoServer(
                f"no server answers at {self._address.url}{was}", hint="start it with: fnsync serve"
            ) from exc
        except httpx.HTTPError as exc:
            raise FnsyncError(f"the connection to {self._address.url} broke: {exc or type(exc).__name__}") from exc
        except httpx.InvalidURL as exc:
            raise FnsyncError(f"{self._address.url} is no address: {exc}") from exc

    def _check(self, response: httpx.Response) -> None:
        if not response.is_success:
            raise self.failure(response.status_code, response.text, response.headers.get("Retry-After"))

    def failure(self, status: int, body: str, retry_after_s: str | None = None) -> FnsyncError:
        """What an answer that is an error says."""
        message = error_message(body) or f"the server answered {status}"
        hint = error_hint(body)
        if status in (401, 403):
            return Unauthorized(message, hint=f"the token is not accepted by {self._address.url} for this")
        if status == 404:
            is_function = "function" in message or "model" in message
            return NotFound(message, hint=hint or ("`fnsync status` lists the functions" if is_function else None))
        later = f"try again in {retry_after_s} s" if retry_after_s else None
        return FnsyncError(message, hint="; ".join(filter(None, (hint, later))) or None)


def place(*parts: str) -> str:
    """The address of these parts, which may hold anything, below `/api`."""
    return "/".join(("/api", *(quote(part, safe="") for part in parts)))


def error_message(text: str) -> str | None:
    """What an error body says, in the shape of the API or of OpenAI; None: it says nothing we know."""
    return message_in(_json(text))


def error_hint(text: str) -> str | None:
    """The way out that an error body names, if it does."""
    data = _json(text)
    error = data.get("error", data) if isinstance(data, dict) else None
    hint = error.get("hint") if isinstance(error, dict) else None
    return hint if isinstance(hint, str) else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def message_in(data: Any) -> str | None:
    """The message of `{"detail": …}` or `{"error": {"message": …}}`, if `data` is one of them."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("detail"), str):
        return str(data["detail"])
    error = data.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error.get("detail") or error)
    return error if isinstance(error, str) else None


@contextmanager
def connected(config: Config, url: str | None, token: str | None) -> Iterator[Client]:
    """A client for the server that these options lead to."""
    address = find_server(config.data, url)
    client = Client(address, find_token(config.data, address, token, os.environ))
    try:
        yield client
    finally:
        client.close()


def _reachable(url: str) -> str:
    parts = urlsplit(url)
    host = _EVERYWHERE.get(parts.hostname or "")
    if host is None:
        return url.rstrip("/")
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host)).rstrip("/")
