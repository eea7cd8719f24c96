"""Contract 9.3: what cannot be provided imports, and its use says what it is."""
import json

from open_webui.internal.db import get_db
from open_webui.main import app
from open_webui.models.chats import Chat


class Pipe:
    def pipe(self, body):
        said = []
        for use in (lambda: app.state, lambda: get_db(), lambda: Chat.id):
            try:
                use()
                said.append("worked")
            except Exception as exc:
                said.append(str(exc).split(" is ")[0])
        return json.dumps(said)
