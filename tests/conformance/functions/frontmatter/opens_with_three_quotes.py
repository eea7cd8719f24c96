"""
title: Three quotes alone on line one
version: 1.2.3
"""


class Pipe:
    def pipe(self, body):
        return "ok"
