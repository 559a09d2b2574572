"""Every reader and every record against inputs that nobody meant: `make fuzz`, and a little of it in `make test`."""
