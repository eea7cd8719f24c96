"""Contract 9.3: names that no longer exist, behind `except ImportError`."""
try:
    from open_webui.config import PERSISTENT_CONFIG_REGISTRY
except ImportError:
    PERSISTENT_CONFIG_REGISTRY = "fallback"


class Pipe:
    def pipe(self, body):
        return str(PERSISTENT_CONFIG_REGISTRY)
