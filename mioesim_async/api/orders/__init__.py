"""Orders: what is bought, renewed, cancelled, looked up, and reconciled."""
