"""
Title: A pipeline
Author: Ada
requirements:
"""
import json


class Pipeline:
    def __init__(self):
        self.name = "Arguments"

    def pipe(self, user_message, model_id, messages, body):
        return json.dumps([user_message, model_id, messages, body])
