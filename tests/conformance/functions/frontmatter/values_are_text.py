"""
title:    trimmed   
quoted: "stays quoted"
address: https://example.org:8080/a?b=c
empty:
number: 1.10
folded: one
  continuation of it
list:
- item
"""


class Pipe:
    def pipe(self, body):
        return "ok"
