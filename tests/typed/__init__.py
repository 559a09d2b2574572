"""What a type checker knows of the public names: read by `make check`, never run."""
