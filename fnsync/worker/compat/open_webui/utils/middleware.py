"""Of `open_webui.utils.middleware`: what a tool returned, as text for the model and as what the user is shown."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import HTMLResponse

_EXTERNAL = ("external", "action", "terminal")


async def process_tool_result(
    request: Any,
    tool_function_name: str,
    tool_result: Any,
    tool_type: str,
    direct_tool: bool = False,
    metadata: Any = None,
    user: Any = None,
) -> tuple[str, list[dict[str, Any]], list[str]]:
    """The text, the files, and the pages or addresses to embed."""
    result, embeds = _embedded(tool_function_name, tool_result, tool_type, direct_tool)
    files: list[dict[str, Any]] = []
    if isinstance(result, str) and result.startswith("data:image/"):
        files.append({"type": "image", "url": result})
        result = f"{tool_function_name}: Image file read successfully."
    if isinstance(result, list):
        result = _of_parts(result, files)
    return _as_text(result), files, embeds


def _embedded(name: str, result: Any, tool_type: str, direct: bool) -> tuple[Any, list[str]]:
    context = None
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], HTMLResponse):
        result, context = result
    if isinstance(result, HTMLResponse):
        page = bytes(result.body).decode("utf-8", "replace")
        if "inline" not in result.headers.get("content-disposition", ""):
            return page, []
        return _told(name, context, result.status_code), [page]
    is_pair = isinstance(result, tuple | list) and len(result) == 2
    if not is_pair or not ((tool_type in _EXTERNAL and isinstance(result, tuple)) or direct):
        return result, []
    result, given = result
    headers = {str(key).lower(): str(value) for key, value in dict(given or {}).items()}
    if "inline" not in headers.get("content-disposition", ""):
        return result, []
    content, context = result if isinstance(result, tuple | list) and len(result) == 2 else (result, None)
    if "text/html" in headers.get("content-type", ""):
        return _told(name, context, 200), [content]
    if headers.get("location"):
        return _told(name, context, 200), [headers["location"]]
    return result, []


def _told(name: str, context: Any, status: int) -> Any:
    """What the model learns of a page that the user is shown."""
    if 200 <= status < 300:
        if isinstance(context, str | dict | list):
            return context
        message = f"{name}: Embedded UI result is active and visible to the user."
        return {"status": "success", "code": "ui_component", "message": message}
    return {"status": "error", "code": "ui_component", "message": f"{name}: status {status} from embedded UI result."}


def _of_parts(parts: list[Any], files: list[dict[str, Any]]) -> Any:
    """The texts of a list of MCP's content parts; others go into `files`. Another list is itself."""
    if not parts or not all(isinstance(part, dict) and "type" in part for part in parts):
        return parts
    texts = []
    for part in parts:
        if part["type"] == "text":
            texts.append(_decoded(part.get("text", "")))
        elif part["type"] in ("image", "audio"):
            data = f"data:{part.get('mimeType', '')};base64,{part.get('data', '')}"
            files.append({"type": part["type"], "url": data})
    return texts[0] if len(texts) == 1 else texts


def _decoded(text: Any) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError):
        return text


def _as_text(result: Any) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, dict | list):
        return msgspec.json.format(msgspec.json.encode(result, enc_hook=str), indent=2).decode()
    return str(result)
