"""From a push to the first answer of the new code, what a sync takes beside git alone, and what sources take."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

import yaml

from benchmarks.bench import Bench
from benchmarks.completions import PATH, job, measured, request
from benchmarks.connection import Connection, post
from benchmarks.processes import MB, memory
from benchmarks.project import Project, as_author, edited, git
from benchmarks.report import Row
from benchmarks.servers import TOKEN, Running, ServerFailed
from fnsync.configgit import SourceConfig, SyncConfig
from fnsync.git.githubapp import GithubTokens
from fnsync.syncing.work import Workshop

NAME = "bench"
SECRET = "benchmark-secret"
#: Rest between pushes, so that each finds an idle server; random, so that none is in step with its polling.
REST_S = (0.2, 1.2)
POLL_S = 0.001
#: How long a new answer is waited for.
PATIENCE_S = 30.0
WARM_UP = 2
_versions = iter(range(1, 1_000_000))


class _Remote:
    """A bare repository with the functions of a project, and a clone of it in which they are changed."""

    def __init__(self, folder: Path, project: Project) -> None:
        self.bare = folder / "remote.git"
        self.clone = folder / "clone"
        git(folder, "clone", "--quiet", "--bare", str(project.root), str(self.bare))
        git(folder, "clone", "--quiet", str(self.bare), str(self.clone))
        as_author(self.clone)

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def commit(self, version: int) -> None:
        """Have one function of them another one."""
        (self.clone / "functions/edited.py").write_text(edited(version), encoding="utf-8")
        git(self.clone, "commit", "--quiet", "--all", "-m", f"Version {version}")

    def push(self) -> None:
        git(self.clone, "push", "--quiet", "origin", "HEAD")


@contextlib.contextmanager
def _following(bench: Bench, folder: Path, entries: list[Mapping[str, object]]) -> Iterator[Running]:
    """A server with one function of its own, and sources; ready when all of them have come."""
    project = Project(folder / "project", 1, ("echo",))
    configuration = {
        "sources": entries,
        "webhooks": [{"name": NAME, "kind": "gitlab", "secret": {"env": "BENCH_SECRET"}, "triggers": [NAME]}],
    }
    (project.root / "fnsync.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    with bench.serving(project, BENCH_SECRET=SECRET) as server:

        def have_come() -> bool:
            status = server.status()
            loading = any(one["status"] == "loading" for one in status["functions"])
            return not loading and all(one["commit"] and not one["progress"] for one in status["sources"])

        server.wait("the sources", have_come)
        yield server


def _entry(remote: _Remote, interval: str, name: str = NAME, prefix: str = "") -> dict[str, object]:
    return {"name": name, "url": remote.url, "path": "functions", "interval": interval, "prefix": prefix}


# ---- from a push to an answer ----------------------------------------------------------------------------


def push(bench: Bench) -> Iterator[Row]:
    """Milliseconds from the end of a push to the first new answer, by webhook and by polling each second."""
    first: dict[str, float] = {}
    for count in bench.sizes.functions:
        for way, interval in (("webhook", "1h"), ("polling at 1 s", "1s")):
            name = f"push → new answer, {count:,} function{'s' if count > 1 else ''}, {way}"
            folder = bench.folder / f"push-{count}-{interval}"
            folder.mkdir()
            remote = _Remote(folder, bench.project(count, "edited"))
            with (
                _following(bench, folder, [_entry(remote, interval)]) as server,
                Connection(server.port) as connection,
            ):
                took = []
                for number in range(1 - WARM_UP, bench.sizes.pushes + 1):
                    bench.say(f"{name}: push {max(number, 0)} of {bench.sizes.pushes}")
                    time.sleep(random.uniform(*REST_S))
                    took.append(_pushed(remote, connection, hook=interval == "1h") * 1000)
            shutil.rmtree(folder)
            ordered = sorted(took[WARM_UP:])
            middle = median(ordered)
            detail: dict[str, object] = {"pushes_ms": [round(value, 1) for value in took[WARM_UP:]]}
            yield Row(f"{name}: median", middle, "ms", first.get(way), None, None, detail)
            yield Row(f"{name}: p90", ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))], "ms")
            first.setdefault(way, middle)


def _pushed(remote: _Remote, connection: Connection, *, hook: bool) -> float:
    """Seconds from the end of a push, or the webhook that follows it, to the first answer of what was pushed."""
    version = next(_versions)
    call, wanted = request(PATH, "edited"), f'"version {version};"'.encode()
    remote.commit(version)
    remote.push()
    began = time.perf_counter()
    if hook:
        status, body = connection.send(_webhook())
        if status != 202:
            raise ServerFailed(f"the webhook was answered {status}: {body[:1000]!r}")
    while True:
        status, body = connection.send(call)
        now = time.perf_counter()
        if status != 200:
            raise ServerFailed(f"a call failed while a push went live: {status} {body[:1000]!r}")
        if wanted in body:
            return now - began
        if now - began > PATIENCE_S:
            raise ServerFailed(f"version {version} did not answer within {PATIENCE_S:g} s: {body[:1000]!r}")
        time.sleep(POLL_S)


def _webhook() -> bytes:
    body = json.dumps({"object_kind": "push", "ref": "refs/heads/main", "number": next(_versions)}).encode()
    head = (
        f"POST /api/webhooks/{NAME} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-Gitlab-Token: {SECRET}\r\nX-Gitlab-Event: Push Hook\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# ---- beside git alone ------------------------------------------------------------------------------------


def sync(bench: Bench) -> Iterator[Row]:
    """A sync of a commit that changes one function of many, and `git fetch` with `git checkout` of the same."""
    folder = bench.folder / "sync"
    folder.mkdir()
    remote = _Remote(folder, bench.project(bench.sizes.many))
    plain = folder / "plain"
    git(folder, "clone", "--quiet", str(remote.url), str(plain))
    call = post(f"/api/sources/{NAME}/sync", {}, TOKEN)
    ours, alone = [], []
    with _following(bench, folder, [_entry(remote, "1h")]) as server, Connection(server.port) as connection:
        for number in range(WARM_UP + bench.sizes.pushes):
            bench.say(f"sync {number + 1} of {WARM_UP + bench.sizes.pushes}")
            remote.commit(next(_versions))
            remote.push()
            began = time.perf_counter()
            status, body = connection.send(call)
            ours.append((time.perf_counter() - began) * 1000)
            if status != 200 or json.loads(body)["count"] != 1:
                raise ServerFailed(f"the sync was answered {status}: {body[:1000]!r}")
            began = time.perf_counter()
            git(plain, "fetch", "--quiet", "origin")
            git(plain, "checkout", "--quiet", "--detach", "FETCH_HEAD")
            alone.append((time.perf_counter() - began) * 1000)
    shutil.rmtree(folder)
    name = f"sync of a commit that changes 1 of {bench.sizes.many:,} functions, until it answers"
    detail: dict[str, object] = {
        "ours_ms": [round(value, 1) for value in ours[WARM_UP:]],
        "git_ms": [round(value, 1) for value in alone[WARM_UP:]],
    }
    middle, other = median(ours[WARM_UP:]), median(alone[WARM_UP:])
    yield Row(f"{name}, against git fetch and checkout", middle, "ms", other, None, None, detail)


def mirror(bench: Bench) -> Iterator[Row]:
    """The first mirror of a repository with many functions and commits, and clones of it by git alone."""
    project = bench.project(bench.sizes.many)
    folder = bench.folder / "mirror"
    folder.mkdir()
    bench.say(f"writing {bench.sizes.mirrored:,} commits")
    origin = folder / "origin"
    shutil.copytree(project.root, origin, ignore=shutil.ignore_patterns(".fnsync"))
    long = Project.__new__(Project)
    long.root, long.functions = origin, origin / "functions"
    long.add_history(bench.sizes.mirrored)
    bare = folder / "remote.git"
    git(folder, "clone", "--quiet", "--bare", str(origin), str(bare))
    git(bare, "config", "uploadpack.allowFilter", "true")
    url = f"file://{bare}"
    ours, shallow, whole = [], [], []
    for number in range(bench.sizes.mirrors):
        bench.say(f"first mirror {number + 1} of {bench.sizes.mirrors}")
        ours.append(_timed(lambda: _mirror(url, folder / "ours")))
        shallow.append(_timed(lambda: git(folder, "clone", "--quiet", "--depth=1", url, str(folder / "shallow"))))
        whole.append(_timed(lambda: git(folder, "clone", "--quiet", url, str(folder / "whole"))))
        for place in ("ours", "shallow", "whole"):
            shutil.rmtree(folder / place)
    shutil.rmtree(folder)
    name = f"first mirror, {bench.sizes.many:,} functions and {bench.sizes.mirrored:,} commits"
    yield Row(f"{name}, against git clone --depth=1", median(ours), "ms", median(shallow))
    yield Row(f"{name}, against git clone", median(ours), "ms", median(whole))


def _mirror(url: str, folder: Path) -> None:
    config = SourceConfig(name=NAME, url=url, path="functions")
    workshop = Workshop(config, SyncConfig(), folder, os.environ, GithubTokens())
    workshop.materialize(workshop.fetch().fetched.commit, None)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


# ---- memory ----------------------------------------------------------------------------------------------

SOURCES = 10


def sources_memory(bench: Bench) -> Iterator[Row]:
    """The server's own process with the same functions in ten sources, and in its functions folder."""
    each = max(1, bench.sizes.many // 100)
    folder = bench.folder / "ten"
    folder.mkdir()
    entries: list[Mapping[str, object]] = []
    for number in range(SOURCES):
        (folder / str(number)).mkdir()
        remote = _Remote(folder / str(number), bench.project(each, "echo", "edited"))
        entries.append(_entry(remote, "1s", f"source-{number}", f"s{number}_"))
    with _following(bench, folder, entries) as server:
        server.wait("some rounds", lambda: all(one["age_s"] < 2 for one in server.status()["sources"]))
        time.sleep(5 * 1.0)
        ours = memory(server.pid)
        threads = len(os.listdir(f"/proc/{server.pid}/task"))
    with bench.serving(bench.project(1, "echo")) as server:
        bare = memory(server.pid)
        bare_threads = len(os.listdir(f"/proc/{server.pid}/task"))
    shutil.rmtree(folder)
    name = f"server that polls {SOURCES} sources of {each} functions each second, against one without"
    detail: dict[str, object] = {"threads": [threads, bare_threads]}
    yield Row(f"{name}: PSS", ours.pss / MB, "MB", bare.pss / MB, None, None, detail)


def failing(bench: Bench) -> Iterator[Row]:
    """Calls while ten sources are synced again and again in vain, and the same calls of a server without sources."""
    folder = bench.folder / "failing"
    folder.mkdir()
    names = [f"gone-{number}" for number in range(SOURCES)]
    entries = [{"name": name, "url": f"file://{folder}/nowhere", "interval": "1h"} for name in names]
    project, plain = Project(folder / "project", 1, ("echo",)), bench.project(1, "echo")
    (project.root / "fnsync.yaml").write_text(yaml.safe_dump({"sources": entries}), encoding="utf-8")
    with bench.serving(project) as server, bench.serving(plain) as other:
        stop = threading.Event()

        def fail(name: str) -> None:
            with Connection(server.port) as connection:
                while not stop.is_set():
                    connection.send(post(f"/api/sources/{name}/sync", {}, TOKEN))

        threads = [threading.Thread(target=fail, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        try:
            name = f"echo while {SOURCES} sources fail, 1 connection"
            ours, without = (job(bench, one, PATH, "echo", 1) for one in (server, other))
            product, reference = measured(bench, name, ours, without)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    shutil.rmtree(folder)
    yield Row(f"{name}: p50, against a server without", product.p50_ms, "ms", reference.p50_ms, None, product.spread)
    yield Row(f"{name}: p99", product.p99_ms, "ms", reference.p99_ms)
