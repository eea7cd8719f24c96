"""Contract 3.4: an exception in stream."""


class Filter:
    def stream(self, event):
        if "two" in str(event):
            raise ValueError("no two")
        return event
