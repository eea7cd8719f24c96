"""
title: Behind a byte order mark
"""


class Pipe:
    def pipe(self, body):
        return "ok"
