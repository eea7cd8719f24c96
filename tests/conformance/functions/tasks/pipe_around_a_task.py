class Pipe:
    def pipe(self, body):
        return body["messages"][-1]["content"]
