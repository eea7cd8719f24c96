"""Contract 4: an action that is not active."""


class Action:
    def action(self, body):
        return "never"
