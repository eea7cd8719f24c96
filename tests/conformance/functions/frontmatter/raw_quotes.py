r"""
title: Raw \d quotes
"""


class Pipe:
    def pipe(self, body):
        return "ok"
