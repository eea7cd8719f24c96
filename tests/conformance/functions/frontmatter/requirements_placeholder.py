"""
requirements: [list of packages, comma separated]
"""


class Pipe:
    def pipe(self, body):
        return "ok"
