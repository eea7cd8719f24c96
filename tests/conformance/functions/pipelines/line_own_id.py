"""Contract 10.1: the id is the instance's if it has one, else the file's stem."""


class Pipeline:
    def __init__(self):
        self.id = "line-of-its-own"
        self.name = "Own id"

    def pipe(self, user_message: str, model_id: str, messages, body) -> str:
        return model_id
