"""
title: Windows
version: 3
"""


class Pipe:
    def pipe(self, body):
        return "ok"
