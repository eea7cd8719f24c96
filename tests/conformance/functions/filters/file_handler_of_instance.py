"""Contract 3.3: `file_handler` on the instance."""


class Filter:
    def __init__(self):
        self.file_handler = True

    def inlet(self, body):
        return body
