"""Contract 3.4: an exception in inlet."""
from fastapi import HTTPException


class Filter:
    def inlet(self, body):
        if body["messages"][-1]["content"] == "too many":
            raise HTTPException(status_code=429, detail="slow down")
        raise ValueError("not in this house")
