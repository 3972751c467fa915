"""Results to signed bytes: claims, COSE, messages, keys and the journal."""
