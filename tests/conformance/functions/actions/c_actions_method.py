"""Contract 4: `actions` must be an attribute; a method is not called."""


class Action:
    def actions(self):
        return [{"id": "never"}]

    def action(self, body):
        return "called"
