"""All that lies on persist: generations, images, records; sealed and scrubbed."""
