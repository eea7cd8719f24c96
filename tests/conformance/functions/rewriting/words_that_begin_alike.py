"""Contract 1.5: `from configparser import X` becomes `from open_webui.configparser`."""
from configparser import ConfigParser


class Pipe:
    def pipe(self, body):
        return ConfigParser.__name__
