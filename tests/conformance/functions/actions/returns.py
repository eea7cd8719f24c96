"""Contract 4: what an action may return."""
from starlette.responses import HTMLResponse, JSONResponse

INLINE = {"Content-Disposition": "inline"}
PAGE = HTMLResponse("<b>page</b>", headers=INLINE)
RETURNS = {
    "nothing": None,
    "text": "some text",
    "number": 4,
    "list": [1, "two"],
    "tuple": (1, 2),
    "messages": {"messages": [{"id": "m-1", "content": "new"}]},
    "page": PAGE,
    "page and context": (PAGE, {"told": True}),
    "html and headers": ("<i>html</i>", {**INLINE, "Content-Type": "text/html"}),
    "address": (None, {**INLINE, "Location": "https://example.org/x"}),
    "other page": HTMLResponse("<p>not inline</p>"),
    "json response": JSONResponse({"teapot": True}, status_code=418),
}


class Action:
    def action(self, body):
        return RETURNS[body["wanted"]]
