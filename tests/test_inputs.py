"""What `fnsync import` may be given, and what it says of what it cannot take."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fnsync.cli import inputs
from fnsync.cli.inputs import Gathered, gather
from fnsync.errors import FnsyncError, Invalid

PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'x'\n"
PIPELINE = "class Pipeline:\n    def pipe(self, user_message, model_id, messages, body):\n        return 'x'\n"
FUNCTION = {"id": "a", "content": PIPE}


def put(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content))
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [[FUNCTION], {"functions": [FUNCTION]}, FUNCTION])
def test_an_export_is_read_in_each_of_its_forms(tmp_path: Path, document: Any) -> None:
    assert gather(put(tmp_path / "export.json", document)) == Gathered("export.json", [FUNCTION])


def test_a_bom_and_another_suffix_do_not_matter(tmp_path: Path) -> None:
    file = put(tmp_path / "export.txt", b"\xef\xbb\xbf" + json.dumps([FUNCTION]).encode())

    assert gather(file).entries == [FUNCTION]


@pytest.mark.parametrize(
    ("name", "source", "id"),
    [
        ("shout.py", PIPE, "shout"),
        ("glossary/main.py", PIPE, "glossary"),
        ("x.py", f'"""\nid: from_inside\n"""\n{PIPE}', "from_inside"),
        ("has-dash.py", f'"""\nid: no id\n"""\n{PIPE}', "has-dash"),
        ("broken.py", '"""\n---\nid: [\n---\n"""\nclass Pipe:', "broken"),
    ],
)
def test_a_source_is_one_function_that_its_frontmatter_or_its_file_names(
    tmp_path: Path, name: str, source: str, id: str
) -> None:
    assert gather(put(tmp_path / name, source)).entries == [{"id": id, "content": source}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "export.json is no export: Expecting value in line 1, column 1"),
        ('[{"id": "s3cret"]', "export.json is no export: Expecting ',' delimiter in line 1, column 17"),
        ("5", "export.json is no export: expected a list of functions; found a number"),
        ('{"a": "s3cret"}', "export.json is no export: expected a list of functions; found an object"),
        ("[" * 100_000, "export.json is no export: it is nested too deeply"),
        (b"[\xff]", "export.json:1:2: the file is not UTF-8: byte 0xff"),
    ],
)
def test_what_is_no_export_is_told_with_its_place(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(FnsyncError) as caught:
        gather(put(tmp_path / "export.json", content))

    assert caught.value.message == words
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


def test_what_json_has_no_form_for_is_refused_alone(tmp_path: Path) -> None:
    wrong = [{"id": "b", "content": "\ud800"}, {"id": "c", "content": "x", "valves": {"x": float("nan")}}]
    found = gather(put(tmp_path / "export.json", [FUNCTION, *wrong, "\udfff"]))

    assert found.entries == [FUNCTION]
    assert found.refused == [
        ("b", "'content': half of a surrogate pair is no text"),
        ("c", "valves: a number that is none"),
        ("functions[3]", "'the entry': half of a surrogate pair is no text"),
    ]


def test_a_file_that_is_too_large_or_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_BYTES", 100)

    with pytest.raises(Invalid, match="large.json is larger than 100 bytes"):
        gather(put(tmp_path / "large.json", [FUNCTION, FUNCTION]))
    with pytest.raises(Invalid, match="gone.json cannot be read: No such file or directory"):
        gather(str(tmp_path / "gone.json"))


# ---- stdin -----------------------------------------------------------------------------------------------


def test_stdin_is_an_export_or_a_source_that_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(text: str) -> list[Any]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return gather("-").entries

    source = f'"""\nid: shout\n"""\n{PIPE}'
    assert given(f" {json.dumps([FUNCTION])}") == [FUNCTION]
    assert given(source) == [{"id": "shout", "content": source}]
    with pytest.raises(Invalid, match="nothing says what the function is called"):
        given(PIPE)


# ---- addresses -------------------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[str]:
    """A web server with an export and a source."""

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = {"/export.json": json.dumps([FUNCTION]), "/shout.py": PIPE, "/shout/main.py": PIPE}.get(
                self.path.partition("?")[0]
            )
            self.send_response(200 if text is not None else 404)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_address_is_that_of_an_export_or_of_a_source(web: str) -> None:
    secret = web.replace("http://", "http://user:s3cret@")
    assert gather(f"{secret}/export.json?token=s3cret") == Gathered(f"{web}/export.json", [FUNCTION])
    assert gather(f"{web}/shout.py").entries == [{"id": "shout", "content": PIPE}]
    assert gather(f"{web}/shout/main.py").entries == [{"id": "shout", "content": PIPE}]
    with pytest.raises(Invalid, match="answered 404"):
        gather(f"{web}/gone.json")


# ---- folders of a Pipelines server -----------------------------------------------------------------------


def test_the_sources_of_a_pipelines_folder_come_with_their_stored_valves(tmp_path: Path) -> None:
    put(tmp_path / "chat.py", PIPELINE)
    put(tmp_path / "chat/valves.json", {"api_key": "k", "pipelines": ["*"], "none": None})
    put(tmp_path / "plain.py", PIPELINE)
    put(tmp_path / "plain/helper.py", PIPELINE)
    put(tmp_path / "failed/old.py", PIPELINE)
    put(tmp_path / "notes.txt", "x")

    found = gather(str(tmp_path))

    assert found.refused == [] and found.origin == tmp_path.name
    assert found.entries == [
        {
            **{"id": "chat", "content": PIPELINE, "is_active": True},
            "valves": {"api_key": "k", "pipelines": ["*"], "none": None},
        },
        {"id": "plain", "content": PIPELINE, "is_active": True, "valves": None},
    ]


def test_what_is_no_pipeline_is_told_as_refused(tmp_path: Path) -> None:
    put(tmp_path / "a_pipe.py", PIPE)
    put(tmp_path / "b_empty.py", "")
    put(tmp_path / "c_bytes.py", b"\xff")
    put(tmp_path / "d_valves.py", PIPELINE)
    put(tmp_path / "d_valves/valves.json", "[s3cret")
    put(tmp_path / "e_list.py", PIPELINE)
    put(tmp_path / "e_list/valves.json", ["s3cret"])
    put(tmp_path / "f_syntax.py", "class Pipeline:")
    put(tmp_path / "g_both.py", PIPE + PIPELINE)
    put(tmp_path / "h_imported.py", "from blueprint import Pipeline as Base\nclass Pipeline(Base):\n    pass\n")
    (tmp_path / "i_gone.py").symlink_to(tmp_path / "nowhere.py")

    found = gather(str(tmp_path))

    assert [entry["id"] for entry in found.entries] == ["f_syntax", "g_both", "h_imported"]
    assert found.refused == [
        ("a_pipe.py", "it holds no class Pipeline (found: Pipe)"),
        ("b_empty.py", "it holds no class Pipeline (found: no class)"),
        ("c_bytes.py", "c_bytes.py:1:1: the file is not UTF-8: byte 0xff"),
        ("d_valves.py", "d_valves/valves.json is no JSON"),
        ("e_list.py", "e_list/valves.json holds no object"),
    ]


def test_a_folder_without_sources_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"holds no sources \(\*\.py\)"):
        gather(str(tmp_path))
