"""Contract 2.3: str."""


class Pipe:
    def pipe(self, body):
        return "hello ü"
