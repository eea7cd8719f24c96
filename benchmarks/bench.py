"""What all measurements of a run share: sizes, a folder, the load generator, projects, progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load
from benchmarks.project import Project
from benchmarks.servers import Running, product

#: In every project, besides those of its measurement.
MANY_ONLY = ("echo", "edited")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int = 5
    #: Of one round.
    seconds: float = 2.0
    saves: int = 30
    #: Functions of the projects that saves are timed in; the last is the large one of all measurements.
    functions: tuple[int, ...] = (1, 100, 1000)
    cold_starts: int = 2
    warm_starts: int = 5
    workers: int = 20
    #: Saves whose processor time is taken.
    reconciles: int = 10
    #: Functions of the projects that are listed.
    listed: tuple[int, ...] = (1000, 10_000)
    lists: int = 30
    #: Commits before the first edit.
    commits: int = 10_000
    edits: int = 30
    editors: int = 50
    #: Of each editor.
    edits_each: int = 6
    pushes: int = 20
    #: Commits of the repository that is mirrored.
    mirrored: int = 5_000
    mirrors: int = 5

    @property
    def many(self) -> int:
        return self.functions[-1]


#: Numbers to look at while working on something; not for comparing.
QUICK = Sizes(
    rounds=3,
    seconds=0.7,
    saves=7,
    functions=(1, 100),
    cold_starts=1,
    warm_starts=2,
    reconciles=4,
    listed=(100,),
    lists=7,
    commits=500,
    edits=7,
    editors=10,
    edits_each=2,
    pushes=5,
    mirrored=300,
    mirrors=2,
)


class Bench:
    """`say` is told what is being done."""

    def __init__(self, folder: Path, load: Load, sizes: Sizes, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.load = load
        self.sizes = sizes
        self.say = say
        self._projects: dict[tuple[int, tuple[str, ...]], Project] = {}

    def project(self, count: int, *only: str) -> Project:
        """A project of `count` functions, made once; `only`: those that a project of one function has."""
        names = only if count <= len(only) else MANY_ONLY
        project = self._projects.get((count, names))
        if project is None:
            self.say(f"writing {count:,} functions")
            root = self.folder / f"project-{len(self._projects)}"
            project = self._projects[count, names] = Project(root, count, names)
        return project

    @contextlib.contextmanager
    def serving(self, project: Project, **variables: str) -> Iterator[Running]:
        """The product, with more variables if given, ready after a warm start: no worker runs yet."""
        self.say(f"starting with {project.count:,} functions")
        if not project.data.exists():
            with product(project, **variables) as server:
                server.wait_ready()
        with product(project, **variables) as server:
            server.wait_ready()
            yield server
