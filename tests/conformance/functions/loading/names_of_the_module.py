"""Contract 1.7: how the module is called, and where it is found."""
import json
import os
import pickle
import sys

AT_EXEC = [__name__, sys.modules.get(__name__) is not None, os.path.exists(__file__)]


class Pipe:
    def __init__(self):
        self.at_init = [__name__ in sys.modules, os.path.exists(__file__)]

    def pipe(self, body):
        return json.dumps(
            {
                "exec": AT_EXEC,
                "init": self.at_init,
                "registered": sys.modules[__name__].Pipe is Pipe,
                "file": os.path.exists(__file__) and __file__.endswith(".py"),
                "pickled": type(pickle.loads(pickle.dumps(self))) is Pipe,
            }
        )
