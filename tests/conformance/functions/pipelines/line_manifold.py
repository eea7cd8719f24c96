"""Contract 10.2: a manifold; `pipelines` is a list; `name` goes in front."""
import json


class Pipeline:
    def __init__(self):
        self.type = "manifold"
        self.name = "Many: "
        self.pipelines = [{"id": "p.1", "name": "One"}, {"id": "two", "name": "Two"}]

    def pipe(self, user_message, model_id, messages, body):
        return json.dumps([model_id, body["model"]])
