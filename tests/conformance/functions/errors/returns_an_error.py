"""Contract 2.3: an error object is a dict like any other."""


class Pipe:
    def pipe(self, body):
        return {"error": {"message": "quota used up"}}
