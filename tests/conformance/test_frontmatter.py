"""Contract 1.2 to 1.4: what the lines at the top of a file tell."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import API, Asker, shows

LENIENT = "accepted: files with it lose nothing"


@pytest.mark.parametrize(
    ("id", "manifest"),
    [
        shows("1.2", "CRLF works", "crlf_line_ends", {"title": "Windows", "version": "3"}),
        shows(
            "1.2",
            "line 1, stripped, must equal three quotes",
            "opens_with_three_quotes",
            {"title": "Three quotes alone on line one", "version": "1.2.3"},
        ),
        shows("1.2", "text behind the quotes: no frontmatter", "quotes_with_text_behind_them", {}),
        shows("1.2", "a file without it has none", "no_frontmatter", {}),
        shows("1.2", "blank first line: none", "blank_line_first", {"title": "Behind a blank line"}, here=LENIENT),
        shows("1.2", "comment first: none", "comment_first", {"title": "Behind a comment"}, here=LENIENT),
        shows("1.2", "single quotes: none", "single_quotes", {"title": "Single quotes"}, here=LENIENT),
        shows("1.2", "raw quotes: none", "raw_quotes", {"title": r"Raw \d quotes"}, here=LENIENT),
        shows(
            "1.2",
            "a BOM: no frontmatter, and the load fails",
            "byte_order_mark",
            {"title": "Behind a byte order mark"},
            here=LENIENT,
        ),
        shows("1.2", "the closing line is dropped whole", "closes_on_the_first_quotes", {"title": "Closed early"}),
        shows(
            "1.2",
            "a key is letters and _, and the colon follows at once",
            "keys_of_letters",
            {"title": "Keys", "under_score": "yes"},
        ),
        shows("1.2", "the case of keys is kept", "case_of_keys", {"Title": "Upper", "title": "lower"}),
        shows(
            "1.2",
            "values are trimmed text: quotes stay, colons are fine, no lists, no continuation",
            "values_are_text",
            {
                "title": "trimmed",
                "quoted": '"stays quoted"',
                "address": "https://example.org:8080/a?b=c",
                "empty": "",
                "number": "1.10",
                "folded": "one",
                "list": "",
            },
        ),
        shows("1.2", "of equal keys the last wins", "last_duplicate_wins", {"title": "Last", "version": "1"}),
        shows(
            "1.2",
            "indented lines count, prose too",
            "indented_lines_count",
            {"title": "Indented", "Note": "prose becomes a key"},
        ),
    ],
)
def test_the_manifest_is_what_the_lines_say(ask: Asker, id: str, manifest: dict[str, str]) -> None:
    assert ask.manifest(id) == manifest
    assert ask.say(id) in ("ok", '"ok"')


def test_1_2_quotes_behind_spaces_are_refused_by_python(ask: Asker) -> None:
    problem = ask.problem("spaces_before_the_quotes")

    assert (problem["code"], problem["line"]) == ("syntax", 1)


def test_1_2_the_manifest_replaces_what_a_client_sends_and_name_and_description_are_the_requests(ask: Asker) -> None:
    content = '"""\ntitle: Of the file\ndescription: Of the file\n"""\nclass Pipe:\n    def pipe(self, body): pass\n'
    sent = {"description": "Of the request", "manifest": {"title": "made up"}}
    form = {"id": "sent_with_a_manifest", "name": "Of the request", "content": content, "meta": sent}

    made = ask.client.post(f"{API}/create", json=form).json()

    assert made["name"] == made["meta"]["description"] == "Of the request"
    assert made["meta"]["manifest"] == {"title": "Of the file", "description": "Of the file"}


@pytest.mark.parametrize(
    ("id", "toggle"),
    [
        shows(
            "1.2",
            "meta.toggle is true for a filter whose instance has a truthy toggle",
            "toggled_icon_of_frontmatter",
            True,
        ),
        shows("1.2", "meta.toggle of a filter without", "untoggled", False),
        shows("1.2", "meta.toggle of a pipe", "no_frontmatter", False),
    ],
)
def test_meta_toggle_is_computed(ask: Asker, id: str, toggle: bool) -> None:
    assert bool(ask.row(id)["meta"].get("toggle")) is toggle


# ---- 1.3 known keys --------------------------------------------------------------------------------------


def test_1_3_known_keys_are_kept_and_decide_nothing(ask: Asker) -> None:
    manifest = ask.manifest("known_keys")

    assert manifest["required_open_webui_version"] == "99.0.0"  # never checked by the server
    assert manifest["id"] == "another_id" and ask.model("another_id") is None  # nor taken as its id
    assert manifest["license"] == "MIT" and manifest["git_url"] == "https://example.org/git"
    row = ask.row("known_keys")
    # A file in git has no request that could name it: here title and description are what its lists show.
    assert (row["name"], row["meta"]["description"]) == ("All that files carry", "What the list shows.")


def test_1_3_icons_of_toggled_filters_stand_in_the_list_of_models(ask: Asker) -> None:
    model = ask.model("no_frontmatter")

    assert model is not None
    icons = {entry["id"]: entry["icon"] for entry in model["filters"]}
    # icon_url of the frontmatter, else icon_url of the instance, else its icon; filters without a toggle are not told.
    assert icons == {
        "toggled_icon_of_frontmatter": "data:image/svg+xml;base64,AAAA",
        "toggled_icon_url_of_instance": "data:image/svg+xml;base64,DDDD",
        "toggled_icon_of_instance": "data:image/svg+xml;base64,EEEE",
    }
    assert next(entry for entry in model["filters"] if entry["id"] == "toggled_icon_of_frontmatter") == {
        "id": "toggled_icon_of_frontmatter",
        "name": "Icon of the frontmatter",
        "description": "Its words",
        "icon": "data:image/svg+xml;base64,AAAA",
        "has_user_valves": False,
    }


# ---- 1.4 requirements, as far as nothing is installed -------------------------------------------------------


@pytest.mark.parametrize(
    "id",
    [
        shows("1.4", "empty entries are dropped", "requirements_that_say_nothing"),
        shows("1.4", "None asks pip for a package of that name", "requirements_none", here="nothing is asked"),
        shows("1.4", "so do placeholders in brackets", "requirements_placeholder", here="nothing is asked"),
    ],
)
def test_requirements_that_name_nothing_need_no_environment(ask: Asker, id: str) -> None:
    assert ask.say(id) == "ok"
    assert ask.standings[id]["environment"] == ask.standings["no_frontmatter"]["environment"]


def test_1_4_options_of_pip_are_refused_with_their_line(ask: Asker) -> None:
    """In the peer entries are arguments of pip; here each is a requirement, since an option would concern them all."""
    problem: dict[str, Any] = ask.problem("requirements_with_an_option")

    assert (problem["code"], problem["line"]) == ("frontmatter", 3) and "--index-url" in problem["message"]
