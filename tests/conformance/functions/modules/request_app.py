"""Contract 7.4: `app.state.MODELS`, `app.url_path_for`; `app.state.config` does not exist."""
import json


class Pipe:
    def pipe(self, body, __request__):
        app = __request__.app
        models = getattr(app.state, "MODELS", {})
        return json.dumps(
            [
                models["inner_model"]["name"],
                "nowhere" in models,
                hasattr(app.state, "config"),
                str(app.url_path_for("get_file_content_by_id", id="f-1")),
                __request__.state.metadata["chat_id"],
            ]
        )
