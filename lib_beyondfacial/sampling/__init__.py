"""One request, one sampling pass, on any host: a Plan goes in, a Report comes out."""
