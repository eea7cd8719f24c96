"""Contract 2.4: an exception of FastAPI's."""
from fastapi import HTTPException


class Pipe:
    def pipe(self, body):
        raise HTTPException(status_code=404, detail="no such thing")
