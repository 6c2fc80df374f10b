"""Everything that awaits: the pooled session, one attempt, retry, login."""
