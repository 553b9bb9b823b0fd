"""Measurements with real weights, on any running web UI: `python -m bench.photo --help`."""
