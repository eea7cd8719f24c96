"""Contract 9.1: `Files.insert_new_file`, `Storage.upload_file`, `Storage.get_file`."""
import io
import json
import uuid
from pathlib import Path

from open_webui.models.files import FileForm, Files
from open_webui.storage.provider import Storage


class Pipe:
    async def pipe(self, body, __user__, __request__):
        id = str(uuid.uuid4())
        content, path = Storage.upload_file(io.BytesIO(b"some bytes"), f"{id}_note.txt", {})
        form = FileForm(id=id, filename="note.txt", path=path, data={}, meta={"content_type": "text/plain", "size": 10})
        made = await Files.insert_new_file(__user__["id"], form)
        found = Files.get_file_by_id(id)
        text = Path(Storage.get_file(found.path)).read_bytes().decode()
        try:
            Storage.upload_file(io.BytesIO(b""), "empty.txt", {})
            empty = "taken"
        except ValueError:
            empty = "ValueError"
        address = __request__.app.url_path_for("get_file_content_by_id", id=id)
        return json.dumps(
            [made.id == id, found.filename, found.meta.get("content_type"), text, content.decode(), empty, str(address)]
        )
