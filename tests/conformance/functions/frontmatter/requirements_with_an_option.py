"""
title: Options
requirements: aiohttp, --index-url https://example.org/simple
"""


class Pipe:
    def pipe(self, body):
        return "ok"
