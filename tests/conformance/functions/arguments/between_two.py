class Pipe:
    def pipe(self, body):
        return " ".join(map(str, body["seen"][0]))
