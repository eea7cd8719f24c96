"""Of `open_webui.storage.provider`: contents of files, kept at the server for the caller."""

from __future__ import annotations

from typing import Any, BinaryIO

from fnsync.worker.compat import contents
from fnsync.worker.compat.ready import at_once


class StorageProvider:
    """Keeps contents, and finds them again by the path it gave."""

    def upload_file(self, file: BinaryIO, filename: str, tags: dict[str, str] | None = None) -> tuple[bytes, str]:
        """The content and its path. Raises ValueError when it is empty."""
        data = file.read()
        if not data:
            raise ValueError("The content provided is empty: a file without content is not kept")
        return data, at_once(contents.keep(filename, data))

    def get_file(self, file_path: str) -> str:
        """A path at which the content can be opened. Raises FileNotFoundError."""
        found: str = at_once(contents.fetch(file_path))
        return found

    def delete_file(self, file_path: str) -> None:
        """Forget a content."""
        at_once(contents.drop(file_path))


LocalStorageProvider = StorageProvider
Storage: Any = StorageProvider()
