"""Of `open_webui.config`: where uploads lie, and which tool servers there are (none)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fnsync.worker.compat.contents import folder

#: A folder of the worker's own. What is written there is kept when it becomes a file (`Files.insert_new_file`).
UPLOAD_DIR: Path = folder()
TOOL_SERVER_CONNECTIONS: list[Any] = []
