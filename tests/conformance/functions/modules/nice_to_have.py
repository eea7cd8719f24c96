"""Contract 9.2: names that some files import."""
import json
from pathlib import Path

from open_webui.config import TOOL_SERVER_CONNECTIONS, UPLOAD_DIR
from open_webui.env import ENABLE_FORWARD_USER_INFO_HEADERS
from open_webui.models.config import Config
from open_webui.models.files import FileMetadataResponse
from open_webui.models.folders import Folders, FolderUpdateForm
from open_webui.models.functions import FunctionForm, FunctionMeta, FunctionModel
from open_webui.models.models import ModelModel, ModelParams, ModelUserResponse
from open_webui.models.skills import SkillForm, SkillMeta, Skills
from open_webui.models.tools import Tools, ToolUserModel
from open_webui.routers.files import upload_file
from open_webui.routers.images import upload_image
from open_webui.routers.models import get_models
from open_webui.utils.headers import include_user_info_headers
from open_webui.utils.logger import stdout_format
from open_webui.utils.middleware import process_tool_result
from open_webui.utils.payload import convert_payload_openai_to_ollama
from open_webui.utils.plugin import extract_frontmatter
from open_webui.utils.tools import get_builtin_tools, get_terminal_tools


class Pipe:
    async def pipe(self, body, __request__):
        return json.dumps(
            [
                isinstance(UPLOAD_DIR, Path),
                TOOL_SERVER_CONNECTIONS if isinstance(TOOL_SERVER_CONNECTIONS, list) else "no list",
                await Config.get("some.key", "default"),
                extract_frontmatter('"""\ntitle: A\n"""\n')["title"],
                await get_builtin_tools(__request__, {}),
            ]
        )
