"""Contract 1.6: an `id` attribute plays no part in routing."""


class Pipe:
    def __init__(self):
        self.id = "an_id_of_its_own"
        self.name = "a name of its own"
        self.type = "manifold"

    def pipe(self, body):
        return "reached"
