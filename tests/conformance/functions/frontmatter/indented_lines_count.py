"""
title: Indented
    Note: prose becomes a key
"""


class Pipe:
    def pipe(self, body):
        return "ok"
