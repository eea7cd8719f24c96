"""Contract 10.2: `type = "pipe"` is listed, but no model."""


class Pipeline:
    type = "pipe"

    def __init__(self):
        self.name = "Typed"

    def pipe(self, user_message, model_id, messages, body):
        return "typed"
