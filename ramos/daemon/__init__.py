"""ramosd: it sleeps until something happens, and then calls what the commands call."""
