"""Follows sources: git repositories whose functions are served beside the local ones."""
