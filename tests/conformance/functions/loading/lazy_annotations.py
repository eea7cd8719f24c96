"""Contract 1.7: annotations are never evaluated."""
import json


def helper(x: NoSuchName, y: "Other | None" = None) -> Undefined[int]:
    return x


class Pipe:
    value: AlsoUndefined

    def pipe(self, body: dict, __user__: Missing | None = None) -> Nowhere:
        return json.dumps([helper.__annotations__["x"], Pipe.__annotations__["value"]])
