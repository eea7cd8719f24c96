"""Contents out of git's store."""

from pathlib import Path

import pytest

from fnsync.errors import RepositoryError
from fnsync.git import command
from fnsync.git.blobs import Blobs
from tests.repositories import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def store(repository: Repository, data: bytes) -> str:
    file = repository.folder / "content"
    file.write_bytes(data)
    return repository.git("hash-object", "-w", "--", str(file))


def test_contents_are_read_one_after_the_other(repository: Repository) -> None:
    contents = [b"", b"\n", b"missing\n", bytes(range(256)) * 100, b"no newline"]
    ids = [store(repository, data) for data in contents]
    with Blobs(repository.folder) as blobs:
        assert [blobs.read(id, 10**6) for id in ids + ids[::-1]] == contents + contents[::-1]


def test_what_is_too_large_is_left_out_and_the_next_is_read(repository: Repository) -> None:
    large, small = store(repository, b"x" * 3_000_000), store(repository, b"small")
    with Blobs(repository.folder) as blobs:
        assert [blobs.read(large, 2_999_999), blobs.read(small, 5), blobs.read(small, 4)] == [None, b"small", None]


def test_a_lost_content_is_explained(repository: Repository) -> None:
    with Blobs(repository.folder) as blobs, pytest.raises(RepositoryError, match="lost the object") as caught:
        blobs.read("1" * 40, 10)
    assert caught.value.hint is not None and "fsck" in caught.value.hint


def test_a_git_that_ends_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="no git repository"), Blobs(tmp_path) as blobs:
        blobs.read("1" * 40, 10)


def test_git_reads_what_it_is_given(repository: Repository) -> None:
    _, id = command.run(repository.folder, "hash-object", "-w", "--stdin", stdin=b"given")
    with Blobs(repository.folder) as blobs:
        assert blobs.read(id.decode().strip(), 5) == b"given"
