"""One server for tests that each want a project of their own: the project begins anew, the server goes on.

What is left of the test before is what belongs to users: tokens, user valves.
"""

from __future__ import annotations

import shutil
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import Server, wait_for

#: What the server itself reads and writes in the project's folder.
KEPT = {".git", ".fnsync", "server.log", "functions", "fnsync.yaml"}


def begin_anew(server: Server, files: Mapping[str, str]) -> None:
    """Put the project back to one commit, `first`, with these files under functions/; return when they are served."""
    project = server.project
    for path in (".git/index.lock", ".git/hooks/pre-commit"):
        (project.root / path).unlink(missing_ok=True)
    project.git("symbolic-ref", "HEAD", "refs/heads/main")
    for ref in project.git("for-each-ref", "--format=%(refname)").split():
        project.git("update-ref", "-d", ref)
    project.git("merge", "--quit")
    project.git("read-tree", "--empty")
    unwanted = [path for path in project.root.iterdir() if path.name not in KEPT]
    for path in (*unwanted, *project.functions.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    wait_for("the end of all functions", lambda: not server.status()["functions"])

    # The commit is there before its files, so that who looks at a file finds where it comes from.
    with tempfile.TemporaryDirectory() as aside:
        for name, text in files.items():
            file = Path(aside) / "functions" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text), encoding="utf-8")
        if files:
            project.git(f"--work-tree={aside}", "add", "functions")
        project.git("commit", "--quiet", "--allow-empty", "-m", "first")
    project.git("reset", "--quiet", "--hard")
    commit = project.git("rev-parse", "HEAD")
    ids = {name.partition(".")[0] for name in files}
    with server.client() as client:
        for id in ids:
            server.settle(id)
            wait_for(
                f"the commit of {id}",
                lambda id=id: client.get(f"/api/functions/id/{id}").json().get("version_id") == commit,
            )
