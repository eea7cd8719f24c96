"""The pipe of file handlers. Contract 3.3."""
import json


class Pipe:
    def pipe(self, body, __files__, __metadata__):
        return json.dumps([__files__, __metadata__["files"]])
