"""Of `open_webui.models.chats`: what functions write of chats. The chats themselves are at the chat server."""

from __future__ import annotations

import time
import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat import records
from fnsync.worker.compat.ready import Table, answers
from fnsync.worker.compat.records import Asking, Record

KIND = "chat"
TITLE = "New Chat"


class ChatModel(BaseModel):
    """A chat, as far as functions have written it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str
    title: str
    chat: dict[str, Any]
    created_at: int
    updated_at: int
    share_id: str | None = None
    archived: bool = False
    pinned: bool | None = False
    meta: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    folder_id: str | None = None
    tasks: list[Any] | None = None
    summary: str | None = None
    current_message_id: str | None = None
    last_read_at: int | None = None


class ChatForm(BaseModel):
    chat: dict[str, Any]
    variables: dict[str, Any] | None = None
    folder_id: str | None = None


class ChatFileModel(BaseModel):
    id: str
    user_id: str
    chat_id: str
    message_id: str | None = None
    file_id: str
    created_at: int
    updated_at: int


def _chat(record: Record | None) -> ChatModel | None:
    if record is None:
        return None
    value = record["value"]
    content = value.get("chat") or {}
    return ChatModel(
        id=record["id"],
        user_id=record["user_id"],
        title=content.get("title") or TITLE,
        chat=content,
        created_at=record["created_at"],
        updated_at=record["updated_at"],
        meta=value.get("meta") or {},
        variables=value.get("variables") or {},
        folder_id=value.get("folder_id"),
        current_message_id=(content.get("history") or {}).get("currentId"),
    )


def _history(value: dict[str, Any]) -> dict[str, Any]:
    """A chat's history, made where it is missing."""
    content = value.setdefault("chat", {})
    content.setdefault("title", TITLE)
    history: dict[str, Any] = content.setdefault("history", {})
    history.setdefault("messages", {})
    history.setdefault("currentId", None)
    return history


def _messages(record: Record | None) -> dict[str, Any] | None:
    if record is None:
        return None
    found: dict[str, Any] = ((record["value"].get("chat") or {}).get("history") or {}).get("messages") or {}
    return found


def _link(messages: dict[str, Any], id: str) -> None:
    """Name a message among its parent's children."""
    parent = messages.get(messages[id].get("parentId") or "")
    if parent is not None:
        children = parent.setdefault("childrenIds", [])
        if id not in children:
            children.append(id)


class ChatTable(Table):
    """Keeps chats, and finds them again. Whatever a function writes of a chat makes it, if it was not there."""

    @answers
    def insert_new_chat(self, id: str, user_id: str, form_data: ChatForm, db: Any = None, **_: Any) -> Asking:
        value = {"chat": form_data.chat, "variables": form_data.variables or {}, "folder_id": form_data.folder_id}
        return _chat((yield from records.keep(KIND, id, value)))

    @answers
    def get_chat_by_id(self, id: str, db: Any = None) -> Asking:
        return _chat((yield from records.kept(KIND, id)))

    @answers
    def get_chat_by_id_and_user_id(self, id: str, user_id: str, db: Any = None) -> Asking:
        found = _chat((yield from records.kept(KIND, id)))
        return found if found is not None and found.user_id == user_id else None

    @answers
    def get_chats_by_user_id(self, user_id: str, *_: Any, **__: Any) -> Asking:
        found = map(_chat, (yield from records.all_kept(KIND)))
        return [one for one in found if one is not None and one.user_id == user_id]

    @answers
    def get_chat_title_by_id(self, id: str) -> Asking:
        found = _chat((yield from records.kept(KIND, id)))
        return None if found is None else found.title

    @answers
    def update_chat_title_by_id(self, id: str, title: str) -> Asking:
        def edit(value: dict[str, Any]) -> None:
            value.setdefault("chat", {})["title"] = title

        return _chat((yield from records.change(KIND, id, edit, make=True)))

    @answers
    def update_chat_by_id(self, id: str, chat: dict[str, Any], db: Any = None, **_: Any) -> Asking:
        """Put keys into a chat; messages that it has and `chat` lacks stay."""

        def edit(value: dict[str, Any]) -> None:
            content = value.setdefault("chat", {})
            known = (content.get("history") or {}).get("messages") or {}
            content.update(chat)
            if "history" in chat:
                given = chat["history"] or {}
                content["history"] = {**given, "messages": {**known, **(given.get("messages") or {})}}

        return _chat((yield from records.change(KIND, id, edit, make=True)))

    @answers
    def get_messages_map_by_chat_id(self, id: str) -> Asking:
        return _messages((yield from records.kept(KIND, id)))

    @answers
    def get_message_by_id_and_message_id(self, id: str, message_id: str) -> Asking:
        """The message; `{}` if the chat has none of that id, None without the chat."""
        messages = _messages((yield from records.kept(KIND, id)))
        return None if messages is None else messages.get(message_id, {})

    @answers
    def upsert_message_to_chat_by_id_and_message_id(
        self, id: str, message_id: str, message: dict[str, Any], **_: Any
    ) -> Asking:
        """Put keys into a message, which is then the current one."""

        def edit(value: dict[str, Any]) -> None:
            history = _history(value)
            messages = history["messages"]
            messages[message_id] = {"id": message_id, **messages.get(message_id, {}), **message}
            history["currentId"] = message_id
            _link(messages, message_id)

        return _chat((yield from records.change(KIND, id, edit, make=True)))

    @answers
    def add_message_files_by_id_and_message_id(self, id: str, message_id: str, files: list[Any]) -> Asking:
        """Put files to those of a message; return them all."""
        found: list[Any] = []

        def edit(value: dict[str, Any]) -> None:
            message = _history(value)["messages"].setdefault(message_id, {"id": message_id})
            found[:] = message["files"] = [*(message.get("files") or []), *files]

        yield from records.change(KIND, id, edit, make=True)
        return found

    @answers
    def add_message_status_to_chat_by_id_and_message_id(
        self, id: str, message_id: str, status: dict[str, Any]
    ) -> Asking:
        def edit(value: dict[str, Any]) -> None:
            message = _history(value)["messages"].setdefault(message_id, {"id": message_id})
            message["statusHistory"] = [*(message.get("statusHistory") or []), status]

        return _chat((yield from records.change(KIND, id, edit, make=True)))

    @answers
    def insert_chat_files(
        self, chat_id: str, message_id: str, file_ids: list[str], user_id: str, db: Any = None
    ) -> Asking:
        """Note which files of the caller belong to a message; those that are noted already, or are not there, are
        left out."""
        theirs = []
        for id in dict.fromkeys(file_ids or ()):
            theirs += [id] if id and (yield from records.kept("file", id)) else []
        now = int(time.time())
        fresh: list[dict[str, Any]] = []

        def edit(value: dict[str, Any]) -> None:
            noted = value.setdefault("files", [])
            fresh[:] = [
                {
                    "id": str(uuid.uuid4()),
                    "user_id": user_id,
                    "chat_id": chat_id,
                    "message_id": message_id,
                    "file_id": id,
                    "created_at": now,
                    "updated_at": now,
                }
                for id in theirs
                if id not in {one["file_id"] for one in noted}
            ]
            noted += fresh

        if not theirs:
            return None
        yield from records.change(KIND, chat_id, edit, make=True)
        return [ChatFileModel(**one) for one in fresh] or None

    @answers
    def get_chat_files_by_chat_id_and_message_id(self, chat_id: str, message_id: str, db: Any = None) -> Asking:
        record = yield from records.kept(KIND, chat_id)
        noted = record["value"].get("files") or [] if record else []
        return [ChatFileModel(**one) for one in noted if one["message_id"] == message_id]

    @answers
    def is_chat_owner(self, id: str, user_id: str, db: Any = None) -> Asking:
        found = _chat((yield from records.kept(KIND, id)))
        return found is not None and found.user_id == user_id

    @answers
    def get_chat_folder_id(self, id: str, user_id: str, db: Any = None) -> Asking:
        found = _chat((yield from records.kept(KIND, id)))
        return None if found is None else found.folder_id

    @answers
    def delete_chat_by_id(self, id: str, db: Any = None) -> Asking:
        return (yield from records.drop(KIND, id))

    @answers
    def delete_chat_by_id_and_user_id(self, id: str, user_id: str, db: Any = None) -> Asking:
        found = _chat((yield from records.kept(KIND, id)))
        return found is not None and found.user_id == user_id and (yield from records.drop(KIND, id))


Chats = ChatTable("Chats")
