  """
title: Indented quotes
  """


class Pipe:
    def pipe(self, body):
        return "ok"
