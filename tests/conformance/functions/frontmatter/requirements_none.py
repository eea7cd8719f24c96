"""
requirements: None
"""


class Pipe:
    def pipe(self, body):
        return "ok"
