"""The command line; nothing else uses it."""
