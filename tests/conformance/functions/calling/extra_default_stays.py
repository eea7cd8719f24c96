"""Contract 2.2: a parameter that nobody supplies keeps its default."""
import json


class Pipe:
    def pipe(self, body, user_id="mine", __language__=None):
        return json.dumps([user_id, __language__])
