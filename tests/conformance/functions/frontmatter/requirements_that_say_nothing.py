"""
requirements:
"""


class Pipe:
    def pipe(self, body):
        return "ok"
