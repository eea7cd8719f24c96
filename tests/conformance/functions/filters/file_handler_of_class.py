"""Contract 3.3: `file_handler` on the class."""


class Filter:
    file_handler = True

    def inlet(self, body):
        return body
