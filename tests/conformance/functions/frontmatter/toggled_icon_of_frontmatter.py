"""
title: Icon of the frontmatter
description: Its words
icon_url: data:image/svg+xml;base64,AAAA
"""


class Filter:
    def __init__(self):
        self.toggle = True
        self.icon = "data:image/svg+xml;base64,BBBB"
