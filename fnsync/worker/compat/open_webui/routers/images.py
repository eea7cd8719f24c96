"""Of `open_webui.routers.images`: keeping an image that a function made."""

from __future__ import annotations

import io
import mimetypes
from types import SimpleNamespace
from typing import Any

from fnsync.worker.compat.open_webui.routers.files import upload_file_handler


async def upload_image(
    request: Any, image_data: bytes, content_type: str, metadata: Any, user: Any, db: Any = None
) -> tuple[Any, str]:
    """The image's record, and the address at which the caller finds it."""
    name = f"generated-image{mimetypes.guess_extension(content_type) or ''}"
    file = SimpleNamespace(file=io.BytesIO(image_data), filename=name, content_type=content_type)
    made = await upload_file_handler(request, file, metadata, process=False, user=user)
    return made, f"/api/v1/files/{made.id}/content"
