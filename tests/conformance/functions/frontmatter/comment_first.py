# A comment stands first.
"""
title: Behind a comment
"""


class Pipe:
    def pipe(self, body):
        return "ok"
