"""Contract 9.1: `User(**__user__)`, `UserModel(**__user__)`."""
import json

from open_webui.models.users import User, UserModel


class Pipe:
    def pipe(self, body, __user__: dict):
        made = UserModel(**__user__), User(**__user__)
        return json.dumps([[one.id == __user__["id"], one.email, one.name, one.role] for one in made])
