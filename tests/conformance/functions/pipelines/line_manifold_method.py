"""Contract 10.2: `pipelines` may be a method."""


class Pipeline:
    def __init__(self):
        self.type = "manifold"
        self.name = "Method: "

    def pipelines(self):
        return [{"id": "made", "name": "Made"}]

    def pipe(self, user_message, model_id, messages, body):
        return model_id
