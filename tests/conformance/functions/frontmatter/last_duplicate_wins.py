"""
title: First
version: 1
title: Last
"""


class Pipe:
    def pipe(self, body):
        return "ok"
