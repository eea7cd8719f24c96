"""The pipe of `carries`. Contract 3.2: the scope of metadata."""
import json


class Pipe:
    def pipe(self, body, __metadata__, __files__):
        keys = ("mark", "later", "features", "files", "tool_ids")
        return json.dumps([{key: __metadata__.get(key) for key in keys}, __files__, body.get("tools")])
