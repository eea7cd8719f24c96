"""Contract 5: an event function that is not active is not called."""


class Event:
    def event(self, event):
        print("must not be called")
