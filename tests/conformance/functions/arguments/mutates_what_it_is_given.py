"""Contract 7.3, 11: what one call does to its arguments, no other call sees."""
import json


class Pipe:
    async def pipe(self, body, __user__, __metadata__, __model__, __messages__):
        before = [key for part in (__user__, __metadata__, __model__) for key in part if key.startswith("my_")]
        __user__["my_name"] = __metadata__["my_note"] = __model__["my_mark"] = body["messages"][-1]["content"]
        __messages__.append("mine")
        return json.dumps(before)
