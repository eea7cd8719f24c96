"""Contract 9: 12 files import under TYPE_CHECKING alone."""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from utils.manifold_types import Anything


class Pipe:
    def pipe(self, body: Anything) -> str:
        return "loaded"
