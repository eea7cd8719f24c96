class Filter:
    toggle = True
    icon = "data:image/svg+xml;base64,EEEE"
