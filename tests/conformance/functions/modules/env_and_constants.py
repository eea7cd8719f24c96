"""Contract 9.1: `env.VERSION`, `env.SRC_LOG_LEVELS`, `env.AIOHTTP_CLIENT_TIMEOUT`, `constants.TASKS`."""
import json
import logging

from open_webui.constants import TASKS
from open_webui.env import AIOHTTP_CLIENT_TIMEOUT, SRC_LOG_LEVELS, VERSION

log = logging.getLogger(__name__)
log.setLevel(SRC_LOG_LEVELS.get("MAIN", logging.INFO))


class Pipe:
    def pipe(self, body, __task__):
        names = [
            TASKS.TITLE_GENERATION,
            TASKS.TAGS_GENERATION,
            TASKS.FOLLOW_UP_GENERATION,
            TASKS.QUERY_GENERATION,
            TASKS.AUTOCOMPLETE_GENERATION,
            TASKS.FUNCTION_CALLING,
        ]
        newer = tuple(int(part) for part in VERSION.split(".")) >= (0, 9, 0)
        timeout = AIOHTTP_CLIENT_TIMEOUT is None or isinstance(AIOHTTP_CLIENT_TIMEOUT, int)
        return json.dumps([VERSION, newer, timeout, __task__ == TASKS.TITLE_GENERATION, [name.value for name in names]])
