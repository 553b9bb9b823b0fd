"""The embedded host: a txt2img web UI on the CPU that speaks A1111 1.10.1's script and callback contract (docs/hosts.md)."""
