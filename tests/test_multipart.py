"""Files that forms send: taken as they are, or refused with the reason."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.api.multipart import Sent, file_in
from fnsync.errors import Invalid


def sent(name: str, data: bytes, field: str = "file") -> tuple[bytes, str]:
    """A form's body and content type, as a client makes them."""
    request = httpx.Request("POST", "http://x/", files={"other": (None, b"1"), field: (name, data)})
    return request.read(), request.headers["content-type"]


@given(data=st.binary())
def test_content_comes_through_byte_for_byte(data: bytes) -> None:
    assert file_in(*sent("a.py", data), "file") == Sent("a.py", data)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("../../etc/a.py", "a.py"), ("C:\\files\\a.py", "a.py"), ("grüße.py", "grüße.py"), ("a b.py", "a b.py")],
)
def test_names_lose_their_folders_only(name: str, kept: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n1\r\n--x--\r\n' % name.encode()
    assert file_in(body.replace(b"\\", b"\\\\"), "multipart/form-data; boundary=x", "file").name == kept


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        sent("a.py", b"1", field="another"),
        (sent("a.py", b"1")[0], "application/json"),
        (sent("a.py", b"1")[0], "multipart/form-data"),
        (sent("a.py", b"1")[0], "multipart/form-data; boundary=another"),
        (b"", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--x--', "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (b"\xff\x00", "multipart/form-data; boundary=\xff"),
    ],
    ids=["other field", "no form", "no boundary", "other boundary", "empty", "no name", "no head", "noise"],
)
def test_what_is_no_file_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(Invalid, match="file"):
        file_in(body, content_type, "file")


@given(body=st.binary(), boundary=st.text(st.characters(max_codepoint=255), max_size=20))
def test_nothing_that_is_sent_breaks_it(body: bytes, boundary: str) -> None:
    with pytest.raises(Invalid):
        file_in(body, f"multipart/form-data; boundary={boundary}", "file")
