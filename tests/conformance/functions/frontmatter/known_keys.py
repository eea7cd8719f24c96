"""
title: All that files carry
version: 0.1
author: Ada
author_url: https://example.org/ada
description: What the list shows.
funding_url: https://example.org/fund
license: MIT
id: another_id
required_open_webui_version: 99.0.0
openwebui_id: 1
git_url: https://example.org/git
date: 2025-01-01
"""


class Pipe:
    def pipe(self, body):
        return "ok"
