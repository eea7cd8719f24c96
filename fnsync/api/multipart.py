"""A file that a form sends (multipart/form-data)."""

from __future__ import annotations

from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from fnsync.errors import Invalid


@dataclass(frozen=True, slots=True)
class Sent:
    """A file as it was sent."""

    #: Without folders.
    name: str
    data: bytes


def file_in(body: bytes, content_type: str, field: str) -> Sent:
    """The file of a form's field. Raises Invalid."""
    if not content_type.lower().startswith("multipart/form-data") or "boundary=" not in content_type.lower():
        raise Invalid(f"{field}: expected a form (multipart/form-data) with a file in this field", param=field)
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    form = BytesParser(policy=policy.HTTP).parsebytes(head + body)
    for part in form.iter_parts() if form.is_multipart() else ():
        assert isinstance(part, EmailMessage)
        if part.get_param("name", header="content-disposition") == field:
            name, data = part.get_filename(), part.get_payload(decode=True)
            if name and isinstance(data, bytes):
                return Sent(_text(name).replace("\\", "/").rpartition("/")[2], data)
    raise Invalid(f"{field}: the form has no file in this field", param=field)


def _text(name: str) -> str:
    """A name that the parser took for bytes of an unknown encoding; clients send UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
