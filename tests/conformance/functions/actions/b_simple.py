"""
title: Simple
description: A button
icon_url: data:image/svg+xml;base64,AAAA
"""
import json


class Action:
    icon = "data:image/svg+xml;base64,BBBB"

    async def action(self, body, __id__=None, **kwargs):
        return {"body": body, "id": __id__, "kwargs": kwargs}
