from pydantic import BaseModel


class Filter:
    class UserValves(BaseModel):
        word: str = "default"

    def inlet(self, body, __user__):
        body["seen"] = [__user__["valves"].word]
        return body
