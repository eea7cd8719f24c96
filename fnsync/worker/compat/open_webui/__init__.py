"""What functions import of `open_webui`, over this server. Loaded module by module, when imported.

A module here is provided under the same name; its public names are what is provided (`fnsync check --compat` reads
them here). All else of `open_webui` imports too, and raises one clear error where it is used (`compat.absent`).
"""
