"""Contract 2.1: `pipes` is never given an argument."""


class Pipe:
    def pipes(self, __user__=None):
        return [{"id": "all", "name": f"For {__user__}"}]

    def pipe(self, body):
        return body["model"]
