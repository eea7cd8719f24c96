"""Which file belongs to which function, by its path."""

import pytest

from fnsync.places import own_folder, owners, settings_of


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.py", {"a.py"}),
        ("a.yaml", {"a.py"}),
        ("team/a.py", {"team/a.py", "team/main.py"}),
        ("a/main.py", {"a/main.py"}),
        ("a/main.yaml", {"a/main.py"}),
        ("a/data/x.json", {"a/main.py", "a/data/main.py"}),
        ("a/b/main.py", {"a/main.py", "a/b/main.py"}),
        ("main.py", {"main.py"}),
        ("README", set()),
        ("a/.gitkeep", set()),
        ("a/__pycache__/x.txt", {"a/__pycache__/main.py"}),
        ("a/_helper.py", {"a/_helper.py", "a/main.py"}),
    ],
)
def test_a_file_belongs_to_its_source_and_to_the_folders_around(path: str, expected: set[str]) -> None:
    found = list(owners(path))
    assert set(found) == expected and len(found) == len(expected)


def test_a_source_has_its_settings_beside_it_and_a_folder_only_as_main() -> None:
    assert [settings_of("a.py"), settings_of("a/main.py")] == ["a.yaml", "a/main.yaml"]
    assert [own_folder(path) for path in ("a.py", "team/a.py", "team/a/main.py", "main.py")] == [
        None,
        None,
        "team/a",
        None,
    ]
