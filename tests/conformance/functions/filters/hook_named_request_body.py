"""Contract 3.2: the first parameter must be named `body`."""


class Filter:
    def inlet(self, request_body):
        return request_body
