"""title: On the line of the quotes
version: 1
"""


class Pipe:
    def pipe(self, body):
        return "ok"
