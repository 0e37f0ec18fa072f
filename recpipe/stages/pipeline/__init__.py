"""How stages are found, planned and run: the machinery behind every command."""
