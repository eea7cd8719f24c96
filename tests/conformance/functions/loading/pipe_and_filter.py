"""Contract 1.7: the first of Pipe, Filter, Action, Event counts."""


class Filter:
    def inlet(self, body):
        return body


class Pipe:
    def pipe(self, body):
        return "a pipe"
