"""Of `open_webui.models.messages`: it can be imported; messages of channels are the chat server's."""
