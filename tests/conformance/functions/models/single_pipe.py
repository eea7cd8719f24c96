"""
title: A single pipe
description: One model
"""
from pydantic import BaseModel


class Pipe:
    class UserValves(BaseModel):
        word: str = "x"

    def __init__(self):
        self.name = "ignored"

    def pipe(self, body):
        return body["model"]
