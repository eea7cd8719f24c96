"""Contract 2.1: an entry that lacks its name."""


class Pipe:
    def pipes(self):
        return [{"id": "first", "name": "First"}, {"id": "nameless"}, "no entry", {"id": "last", "name": "Last"}]

    def pipe(self, body):
        return body["model"]
