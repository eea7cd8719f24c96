"""How each function stands, and which of those that must not be left out are not there."""

from __future__ import annotations

from typing import Any

from fnsync.model import FunctionId, Kind
from fnsync.plan import Standing


class Standings(dict[FunctionId, Standing]):
    """Function -> how it stands. `missing` has those that are required (`required: true`), active, and have no
    revision that loads: filters, and files whose class cannot be read."""

    def __init__(self, active: bool) -> None:
        """`active`: what holds for functions whose settings do not say."""
        super().__init__()
        self.missing: dict[FunctionId, Standing] = {}
        self._active = active

    def __setitem__(self, id: FunctionId, standing: Standing) -> None:
        super().__setitem__(id, standing)
        if self._is_missing(standing):
            self.missing[id] = standing
        else:
            self.missing.pop(id, None)

    def pop(self, id: FunctionId, *default: Any) -> Any:
        """Forget one."""
        self.missing.pop(id, None)
        return super().pop(id, *default)

    def _is_missing(self, standing: Standing) -> bool:
        settings = standing.unit.settings
        active = self._active if settings.active is None else settings.active
        kind = standing.unit.inspection.kind
        return settings.required and active and standing.live is None and kind in (Kind.FILTER, None)
