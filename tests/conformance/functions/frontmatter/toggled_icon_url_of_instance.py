class Filter:
    toggle = True
    icon = "data:image/svg+xml;base64,CCCC"
    icon_url = "data:image/svg+xml;base64,DDDD"
