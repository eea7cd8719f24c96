"""Of `open_webui.routers.files`: uploads by functions."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from typing import Any

import msgspec
from starlette.exceptions import HTTPException

from fnsync.worker.compat import contents
from fnsync.worker.compat.open_webui.models.files import FileForm, Files
from fnsync.worker.compat.ready import later

__all__ = ["FileForm", "Files", "upload_file", "upload_file_handler"]


async def upload_file_handler(
    request: Any,
    file: Any,
    metadata: dict[str, Any] | str | None = None,
    process: bool = True,
    process_in_background: bool = True,
    user: Any = None,
    background_tasks: Any = None,
    db: Any = None,
) -> Any:
    """Keep an UploadFile for the caller: its record; with `process` a dict of it. Nothing is extracted from it.

    Raises HTTPException for an empty file, and for metadata that are no JSON.
    """
    if isinstance(metadata, str):
        try:
            metadata = msgspec.json.decode(metadata)
        except msgspec.DecodeError as exc:
            raise HTTPException(400, "Invalid metadata format") from exc
    about: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
    data = await asyncio.to_thread(file.file.read)
    if not data:
        raise HTTPException(400, "The content provided is empty: a file without content is not kept")
    id, name = str(uuid.uuid4()), os.path.basename(file.filename or "file")
    path = await later(contents.keep(name, data))
    form = FileForm(
        id=id,
        filename=name,
        path=path,
        hash=about.get("file_hash") or hashlib.sha256(data).hexdigest(),
        meta={"name": name, "content_type": file.content_type, "size": len(data), "data": about},
    )
    made = await Files.insert_new_file("", form)
    return {"status": True, **made.model_dump()} if process else made


async def upload_file(request: Any, file: Any, metadata: Any = None, process: bool = True, **rest: Any) -> Any:
    """As upload_file_handler, whose arguments it takes."""
    return await upload_file_handler(request, file, metadata, process, **rest)
