"""Exit 0 if this Python has every pinned package of a requirements file; for a bare Python 3."""

import sys
from importlib import metadata

for line in open(sys.argv[1]):
    name, pinned, version = line.partition("#")[0].strip().partition("==")
    if not pinned:
        continue
    try:
        installed = metadata.version(name).partition("+")[0]  # 2.13.0+cpu is 2.13.0
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed != version:
        sys.exit(f"{name}: {version} is required, {installed} installed")
