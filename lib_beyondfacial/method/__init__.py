"""The numerical core: predictions and maps in, one tensor `delta` out. No host, no files (docs/method.md)."""
