"""
Title: Upper
title: lower
"""


class Pipe:
    def pipe(self, body):
        return "ok"
