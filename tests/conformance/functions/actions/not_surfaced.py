"""Contract 4: an action that no model shows."""


class Action:
    def action(self, body):
        return "called"
