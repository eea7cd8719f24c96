"""Contract 10.4: what a pipe's result becomes, by the user's message."""
from pydantic import BaseModel


class Answer(BaseModel):
    word: str = "model"


def words():
    yield "one "
    yield ""
    yield b"two"


def chunks():
    yield {"choices": [{"index": 0, "delta": {"content": "of a chunk"}, "finish_reason": None}]}
    yield Answer()
    yield 'data: {"ready": "made"}'


def breaks():
    yield "one "
    raise RuntimeError("broke midway")


class Pipeline:
    def __init__(self):
        self.name = "Returns"

    def pipe(self, user_message, model_id, messages, body):
        if user_message == "raises":
            raise RuntimeError("no pipe today")
        return {
            "text": lambda: "text",
            "generator": words,
            "iterator": lambda: iter(["one ", "two"]),
            "dict": lambda: {"any": "shape"},
            "model": Answer,
            "none": lambda: None,
            "list": lambda: ["a"],
            "chunks": chunks,
            "breaks": breaks,
        }[user_message]()
