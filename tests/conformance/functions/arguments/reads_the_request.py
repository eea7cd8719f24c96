"""Contract 7.4: a Starlette request of the chat call; its body was read already."""
import json


class Pipe:
    async def pipe(self, body, __request__):
        request = __request__
        return json.dumps(
            {
                "headers": [request.headers.get("accept-language"), request.headers.get("content-type")],
                "authorization": request.headers.get("authorization"),
                "copied": "x-mine" in dict(request.headers),
                "url": [request.url.path, request.url.query, str(request.base_url)],
                "method": request.method,
                "cookies": request.cookies,
                "query": dict(request.query_params),
                "client": request.client is not None,
                "state": [getattr(request.state, "nothing", None)],
            }
        )
