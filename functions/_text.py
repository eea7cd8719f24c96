"""Text helpers for the functions beside it: a name that begins with _ makes a module, not a function."""

import re
import unicodedata

WORD = re.compile(r"\w+(?:['’-]\w+)*")
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+(?=[^\W\d_]|\d)")


def last_user_text(messages: list[dict]) -> str:
    """The text of the newest message that a user wrote; of several parts, the text parts."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return content_text(message.get("content"))
    return ""


def content_text(content: str | list[dict] | None) -> str:
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content if part.get("type") == "text")
    return content or ""


def words(text: str) -> list[str]:
    return WORD.findall(text)


def slug(text: str, separator: str = "-") -> str:
    """Lower-case words in plain letters: `Crème brûlée, twice!` becomes `creme-brulee-twice`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return separator.join(re.findall(r"[a-z0-9]+", plain.lower().replace("'", "")))


def first_sentence(paragraph: str) -> str:
    return SENTENCE_END.split(" ".join(paragraph.split()), maxsplit=1)[0]


def headings(markdown: str) -> list[tuple[int, str]]:
    """Level (1 to 6) and text of each heading outside of code blocks."""
    return [(len(marks), title) for marks, title in HEADING.findall(FENCE.sub("", markdown))]
