"""Items of OpenAI's Responses (a message's `output`) as chat messages."""

from __future__ import annotations

from typing import Any

Item = dict[str, Any]


def get_output_text(output: list[Item] | None) -> str:
    """The texts of the messages in it."""
    texts = [_text(item.get("content")) for item in output or () if item.get("type") == "message"]
    return "\n".join(text for text in texts if text)


def convert_output_to_messages(
    output: list[Item] | None,
    raw: bool = False,
    reasoning_format: str | None = None,
    flatten_tool_images: bool = False,
) -> list[dict[str, Any]]:
    """The messages that a model is shown: texts and tool calls of the assistant, and the tools' results behind them.

    With `raw` and `reasoning_format="think_tags"` reasoning stands in the text, within those tags; else it is left
    out. Calls without a result are left out, and results without a call.
    """
    assembled = _Assembled(output or [])
    for item in output or ():
        match item.get("type"):
            case "message":
                assembled.text(_text(item.get("content")))
            case "reasoning" if raw and reasoning_format == "think_tags":
                assembled.text(f"<think>{_text(item.get('content') or item.get('summary'))}</think>")
            case "function_call":
                assembled.call(item)
            case "function_call_output":
                assembled.result(item)
            case "open_webui:code_interpreter":
                assembled.text(_interpreted(item))
    return assembled.finish()


class _Assembled:
    def __init__(self, output: list[Item]) -> None:
        called = {item.get("call_id") for item in output if item.get("type") == "function_call"}
        told = {item.get("call_id") for item in output if item.get("type") == "function_call_output"}
        self._paired = called & told
        self._messages: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []

    def text(self, text: str) -> None:
        if text:
            self._texts.append(text)

    def call(self, item: Item) -> None:
        if item.get("call_id") in self._paired:
            function = {"name": item.get("name", ""), "arguments": item.get("arguments", "{}")}
            self._calls.append({"id": item["call_id"], "type": "function", "function": function})

    def result(self, item: Item) -> None:
        if item.get("call_id") not in self._paired:
            return
        self._flush()
        content = item.get("output")
        text = content if isinstance(content, str) else _text(content)
        self._messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})

    def finish(self) -> list[dict[str, Any]]:
        self._flush()
        return self._messages

    def _flush(self) -> None:
        if self._texts or self._calls:
            message: dict[str, Any] = {"role": "assistant", "content": "\n".join(self._texts)}
            if self._calls:
                message["tool_calls"] = self._calls
            self._messages.append(message)
        self._texts, self._calls = [], []


def _text(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(str(part.get("text", "")) for part in parts or () if isinstance(part, dict))


def _interpreted(item: Item) -> str:
    output = item.get("output")
    told = output.get("stdout") or output.get("result") or "" if isinstance(output, dict) else output or ""
    code = f"<code_interpreter>\n{item.get('code', '')}\n</code_interpreter>"
    return f"{code}\n<code_interpreter_output>\n{told}\n</code_interpreter_output>" if told else code
