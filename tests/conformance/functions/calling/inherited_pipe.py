"""Contract 2.2: the method may come from a base class."""


class Base:
    def pipe(self, body):
        return "inherited"


class Pipe(Base):
    pass
