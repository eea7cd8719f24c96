"""
title: Keys
under_score: yes
with-hyphen: no
with.dot: no
two words: no
digit1: no
before : no
"""


class Pipe:
    def pipe(self, body):
        return "ok"
