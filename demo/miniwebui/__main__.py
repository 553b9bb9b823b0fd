"""python -m demo.miniwebui [--port 7861] [--models-dir DIR] [--script PATH] [--api-auth user:password]"""

import sys
from pathlib import Path

import uvicorn

from .host import REPOSITORY, boot, parse_flags

extension = Path(dict(zip(sys.argv, sys.argv[1:], strict=False)).get("--script", REPOSITORY))
flags = parse_flags([extension], sys.argv[1:])
host = boot(flags.models_dir, [extension], page=True, argv=sys.argv[1:])
print(f"http://127.0.0.1:{flags.port}", flush=True)
uvicorn.run(host.app, host="127.0.0.1", port=flags.port, log_level="warning")
