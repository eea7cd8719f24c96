"""Contract 1.7: `Tools` is no function."""


class Tools:
    def add(self, a: int, b: int) -> int:
        return a + b
