"""The model of the filters below."""


class Pipeline:
    def __init__(self):
        self.name = "Target"

    def pipe(self, user_message, model_id, messages, body):
        return user_message
