"""The embedded host: txt2img on the CPU under A1111 1.10.1's script and callback contract (docs/compatibility.md)."""
