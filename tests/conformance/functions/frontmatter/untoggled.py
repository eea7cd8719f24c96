"""
icon_url: data:image/svg+xml;base64,FFFF
"""


class Filter:
    toggle = False
