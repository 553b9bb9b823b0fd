"""python -m demo.miniwebui [--port 7861] [--models-dir DIR] [--script PATH] [--api-auth user:password]"""

import argparse
import sys
from pathlib import Path

import uvicorn

from .host import REPOSITORY, XYZ_GRID, boot, parse_flags

first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
first.add_argument("--script", type=Path, default=REPOSITORY)
extension = first.parse_known_args()[
    0
].script  # its preload.py may add flags, so it must be known before they are read
flags = parse_flags([extension], sys.argv[1:])
host = boot(flags.models_dir, [extension, XYZ_GRID], page=True, argv=sys.argv[1:])
print(f"http://127.0.0.1:{flags.port}", flush=True)
uvicorn.run(host.app, host="127.0.0.1", port=flags.port, log_level="warning")
