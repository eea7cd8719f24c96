"""Contract 2.2: a `pipe` without `body`."""


class Pipe:
    def pipe(self, __user__):
        return "never"
