"""
title: Closed early
version: 2"""

AFTER = """
author: nobody reads this
"""


class Pipe:
    def pipe(self, body):
        return "ok"
