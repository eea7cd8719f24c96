"""The API against its own description: whatever is sent, the answer is a documented one, and no fault of the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ADMIN_TOKEN, Project, Server

if TYPE_CHECKING:  # its import takes half a second, which every process of a run would spend
    import schemathesis

#: How much is sent to each operation.
EXAMPLES = 25
#: So many tests share the operations.
PARTS = 6

PIPE = "class Pipe:\n    def pipe(self, body=None):\n        return str(body)\n"
TUNED = """
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: int = 0

    class UserValves(BaseModel):
        tone: str = "plain"

    def inlet(self, body=None):
        return body
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, with a pipe `0` cannot be the id of, and a filter with valves."""
    project = Project(tmp_path_factory.mktemp("described") / "project")
    project.write("a.py", PIPE)
    project.write("b.py", TUNED)
    project.configure("webhooks: [{name: hook, kind: github, secret: {env: HOOK_SECRET}}]\n")
    project.commit("first")
    server = Server(project, environ={"HOOK_SECRET": "unknown to who sends here"})
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.mark.parametrize("part", range(PARTS))
def test_every_answer_is_a_documented_one(described: Server, part: int) -> None:
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{described.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 40

    for operation in operations[part::PARTS]:
        if (operation.method.lower(), operation.path) == ("get", "/api/events"):
            continue  # such an answer does not end
        mend(described)
        ask(operation, described.url)


def mend(server: Server) -> None:
    """Put the two functions back: what was sent before may have removed them, and made others of their names."""
    for id, text in (("a", PIPE), ("b", TUNED)):
        file = server.project.functions / f"{id}.py"
        if not file.exists() or file.read_text() != text:
            file.with_suffix(".yaml").unlink(missing_ok=True)
            server.project.write(f"{id}.py", text)
            server.settle(id)
            server.project.commit(f"Mend {id}")


def ask(operation: schemathesis.APIOperation, url: str) -> None:
    """Send an operation what its description allows, and what it does not."""
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    wanted = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
        checks.unsupported_method,
    ]

    @given(case=st.one_of(operation.as_strategy(), operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)))
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        # Most operations are about one function: much of what is sent is about one that is there.
        id = str((case.path_parameters or {}).get("id", ""))
        if len(id) % 2:
            case.path_parameters = {**case.path_parameters, "id": "ab"[len(id) % 4 // 2]}
        if case.query and case.query.get("follow"):
            case.query = {**case.query, "follow": "false"}  # such an answer does not end
        response = case.call(base_url=url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=30)
        case.validate_response(response, checks=wanted)

    check()


def test_without_a_token_every_other_route_is_401(described: Server) -> None:
    document = httpx.get(f"{described.url}/openapi.json").json()
    with httpx.Client(base_url=described.url) as anyone:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                answer = anyone.request(method.upper(), path.replace("{id}", "a").replace("{name}", "hook"), json={})
                expected = 401 if "security" in operation else 200
                assert answer.status_code == expected, f"{method} {path}: {answer.text}"
