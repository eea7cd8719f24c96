"""Contract 1.5: `from utils…`, `from config` mean those below open_webui."""
import json

from config import UPLOAD_DIR
from utils.misc import get_last_user_message

PROMPT = "take it from utils, from main and from config"


class Pipe:
    def pipe(self, body):
        return json.dumps([get_last_user_message(body["messages"]), UPLOAD_DIR is not None, PROMPT])
