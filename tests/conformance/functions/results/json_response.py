"""Contract 2.3: a JSONResponse."""
from fastapi.responses import JSONResponse


class Pipe:
    def pipe(self, body):
        return JSONResponse({"teapot": True}, status_code=418)
