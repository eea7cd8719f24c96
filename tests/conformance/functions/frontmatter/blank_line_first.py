
"""
title: Behind a blank line
"""


class Pipe:
    def pipe(self, body):
        return "ok"
