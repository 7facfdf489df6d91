"""Have this environment's packages run as Python where they can, so that lines can be counted.

The wheel has the source of every module that is compiled for speed alone; without the compiled one
beside it Python imports that. `tox -e coverage` calls this in an environment of its own.
"""

import sysconfig
from pathlib import Path


def main():
    """Remove compiled modules that have a source in Python, and say how many."""
    site = Path(sysconfig.get_path("platlib"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiled = list(site.glob(f"normcore*/**/*{suffix}"))
    plain = [
        path for path in compiled if path.with_name(path.name.removesuffix(suffix) + ".py").exists()
    ]
    for path in plain:
        path.unlink()
    print(f"{len(plain)} of {len(compiled)} compiled modules run as Python")


if __name__ == "__main__":
    main()
