"""python -m demo.miniwebui [--port 7861] [--models-dir DIR] [--script PATH] [--api-auth user:password]"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from .host import boot, parse_flags


def main(argv: list[str]) -> None:
    script = next((Path(value) for flag, value in zip(argv, argv[1:], strict=False) if flag == "--script"), None)
    flags = parse_flags([script] if script else [], argv)
    host = boot(flags.models_dir, [flags.script], page=True, argv=argv)
    print(f"http://127.0.0.1:{flags.port}", flush=True)
    uvicorn.run(host.app, host="127.0.0.1", port=flags.port, log_level="warning")


main(sys.argv[1:])
