"""Pure functions and tables of the wire protocol: no event loop, no HTTP library."""
