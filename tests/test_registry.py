"""What is live, and for whom what was live before is kept."""

import gc

from fnsync.registry import Registry


def test_a_former_world_is_known_as_long_as_a_request_holds_it() -> None:
    registry = Registry()
    held = registry.world
    for _ in range(3):
        registry.publish(registry.world.changed({}))
    gc.collect()
    assert registry.worlds() == [registry.world, held]
    del held
    gc.collect()
    assert registry.worlds() == [registry.world]
