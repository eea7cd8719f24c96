"""Starts a server from a configuration, tells where it is and how to get in, and runs it until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import msgspec
import uvloop

from fnsync import records
from fnsync.admin import AdminToken, admin_token
from fnsync.api import server
from fnsync.config import Config
from fnsync.service import Listeners, Service

#: The collector runs rarely: requests make little garbage in cycles, and a run takes milliseconds.
GC_THRESHOLD = 50_000
#: How long the announcement waits for functions to load, in seconds.
ANNOUNCE_S = 5.0


def run(
    config: Config,
    *,
    environ: Mapping[str, str],
    listeners: Listeners | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. Raises FnsyncError when it cannot start.

    With `listeners` they tell what happens, and the log holds errors only.
    """
    records.configure(quiet=listeners is not None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(config, environ, listeners or Listeners(line=records.FunctionOutput())))
    return 0


async def _run(config: Config, environ: Mapping[str, str], listeners: Listeners) -> None:
    # Before anything else: a taken port is the commonest reason not to start.
    with contextlib.closing(server.listen(config.server.host, config.server.port)) as listener:
        service = Service(config, environ, listeners)
        try:
            await service.start()
            await _serve(service, listener)
        finally:
            listener.close()
            await service.close()


async def _serve(service: Service, listener: socket.socket) -> None:
    config = service.config
    token = await asyncio.to_thread(admin_token, service.state, config.data, service.environ)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)
    gc.enable()
    url = _url(listener.getsockname())
    record = msgspec.json.encode({"pid": os.getpid(), "url": url})
    (config.data / "server.json").write_bytes(record)
    announcing: list[asyncio.Task[None]] = []
    await server.serve(
        service, listener, lambda: announcing.append(asyncio.create_task(_announce(service, url, token)))
    )


def _url(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  the address to call, not to bind
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _announce(service: Service, url: str, token: AdminToken) -> None:
    """Wait for the first loads, but not long: some functions may need minutes to install what they require."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANNOUNCE_S):
            await service.reconciler.ready.wait()
    announce(service, url, token)


def announce(service: Service, url: str, token: AdminToken) -> None:
    """Print where the server is, how to get in, and a command that works."""
    pipes = sorted(
        id
        for id, live in service.registry.world.functions.items()
        if live.active and live.kind == "pipe" and not live.manifest.manifold
    )
    model = "echo" if "echo" in pipes or not pipes else pipes[0]
    shown = token.text if token.generated else "$FNSYNC_ADMIN_TOKEN"
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    lines = [
        f"fnsync {service.version} serves {len(service.reconciler.standings)} functions of {service.config.functions}",
        "",
        f"  address      {url}",
        f"  admin token  {shown}",
        "",
        "Try it:",
        "",
        f"  curl {url}/v1/chat/completions \\",
        f'    -H "Authorization: Bearer {shown}" -H "Content-Type: application/json" \\',
        f"    -d '{json.dumps(body)}'",
        "",
    ]
    print("\n".join(lines), flush=True)
