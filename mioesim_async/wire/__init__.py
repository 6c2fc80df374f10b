"""Functions and tables of the wire protocol, without an event loop or an HTTP library."""
