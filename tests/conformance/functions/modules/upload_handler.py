"""Contract 9.1: `upload_file_handler` with `process=False` gives a file with `.id`."""
import io
import json

from fastapi import UploadFile
from open_webui.models.users import Users
from open_webui.routers.files import upload_file_handler
from starlette.datastructures import Headers


class Pipe:
    async def pipe(self, body, __user__, __request__):
        file = UploadFile(
            file=io.BytesIO(b"pixels"), filename="a.png", headers=Headers({"content-type": "image/png"})
        )
        user = await Users.get_user_by_id(__user__["id"])
        made = await upload_file_handler(request=__request__, file=file, metadata={}, process=False, user=user)
        return f"/api/v1/files/{made.id}/content"
