"""Contract 7.1: names that no pipe is given keep their defaults; `**kwargs` gets nothing."""
import json


class Pipe:
    def pipe(self, body, __body__="mine", __event__="mine", __app__="mine", __variables__="mine", **kwargs):
        return json.dumps([__body__, __event__, __app__, __variables__, kwargs])
