"""Contract 4: an exception in an action."""


class Action:
    async def action(self, body):
        raise ValueError("no button today")
