"""Contract 4: a class without `action` is listed; calling it gives the body back."""


class Action:
    pass
