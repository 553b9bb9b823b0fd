"""The sampling of one request on any host: a Plan is the input, a Report the output."""
