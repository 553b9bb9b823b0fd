"""python -m tests.forge_double [--port 7861] [--models-dir DIR]: the double behind the miniature host's HTTP API."""

import sys

import uvicorn

from demo.miniwebui.host import REPOSITORY, parse_flags

from .host import booted

flags = parse_flags([REPOSITORY], sys.argv[1:])
with booted(flags.models_dir, [REPOSITORY], page=True, argv=sys.argv[1:]) as double:
    print(f"http://127.0.0.1:{flags.port}", flush=True)
    uvicorn.run(double.host.app, host="127.0.0.1", port=flags.port, log_level="warning")
