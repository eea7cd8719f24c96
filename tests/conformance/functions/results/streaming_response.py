"""Contract 2.3: a StreamingResponse is passed through untouched."""
from starlette.responses import StreamingResponse


class Pipe:
    def pipe(self, body):
        return StreamingResponse(iter(["first line\n", b"second line\n"]), media_type="text/plain", status_code=203)
