"""Contract 3.3: a module-level variable is ignored."""
file_handler = True


class Filter:
    def inlet(self, body):
        return body
