"""`fnsync invoke`: one call from the command line."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli.client import connected, message_in
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import print_json, printable
from fnsync.errors import FnsyncError, Invalid

if TYPE_CHECKING:
    import httpx

CHAT = "/v1/chat/completions"


def invoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="A function or one of its models, such as text.upper.")],
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", metavar="TEXT", help="What to say. [default: what stdin gives]"),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is made.")] = False,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Say something to a function and print its answer."""
    settings = load_config(config)
    body = {"model": id, "messages": [{"role": "user", "content": _message(message)}], "stream": stream}
    with connected(settings, url, token) as client:
        if not stream:
            _show_answer(client.post(CHAT, body), as_json=json)
            return
        with client.stream("POST", CHAT, body=body) as lines:
            _show_stream(lines, as_json=json)


def _message(given: str | None) -> str:
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        raise Invalid("there is nothing to say", hint="give it with --message, or through a pipe")
    return sys.stdin.read()


def _show_answer(response: httpx.Response, *, as_json: bool) -> None:
    """Print the text of a completion; what is none is printed as it is."""
    try:
        answer = response.json()
    except ValueError:
        _write(response.text + "\n")
        return
    text = content_of(answer, "message")
    if as_json or text is None:
        print_json(answer)
    else:
        _write(text + "\n")


def _show_stream(lines: Iterable[str], *, as_json: bool) -> None:
    """Print what arrives. Raises FnsyncError when the stream says that the function failed."""
    ended_line = True
    for frame in frames(lines):
        if as_json:
            print_json(frame, one_line=True)
        else:
            text = content_of(frame, "delta")
            if text:
                _write(text)
                ended_line = text.endswith("\n")
        failure = message_in(frame) if isinstance(frame, dict) and "error" in frame else None
        if failure:
            if not ended_line:
                _write("\n")
            raise FnsyncError(failure)
    if not ended_line:
        _write("\n")


def frames(lines: Iterable[str]) -> Iterator[Any]:
    """The JSON values of a stream's `data:` lines, up to `[DONE]`."""
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            yield jsonlib.loads(data)
        except ValueError:
            # A function may send lines of its own making.
            yield {"choices": [{"delta": {"content": data + "\n"}}]}


def content_of(answer: Any, part: str) -> str | None:
    """The text of a completion (`message`) or a chunk (`delta`); None: there is none."""
    try:
        content = answer["choices"][0][part]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _write(text: str) -> None:
    """Print at once; on a terminal without what it would act on."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
