"""Contract 1.9: an exception while the file runs."""

raise RuntimeError("not today")


class Pipe:
    def pipe(self, body):
        return "never"
