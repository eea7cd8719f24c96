"""Contract 1.9: an import of a package that nobody declared."""
import no_such_package_anywhere


class Pipe:
    def pipe(self, body):
        return no_such_package_anywhere.__name__
