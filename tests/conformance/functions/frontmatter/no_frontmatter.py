import json


class Pipe:
    def pipe(self, body):
        return json.dumps("ok")
