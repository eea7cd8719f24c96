"""Starts a zygote in any environment: `python -I bootstrap.py CONTROL_FD`.

The environment does not have fnsync installed, and putting the server's site-packages on the path would mix
two sets of libraries. So the package is registered under its name by its folder alone.
"""

import importlib.util
import pathlib
import sys


def register_package() -> None:
    """Make `fnsync` importable without making anything beside it importable."""
    folder = pathlib.Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "fnsync", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fnsync"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    register_package()
    from fnsync.worker import zygote

    zygote.main(int(sys.argv[1]))
