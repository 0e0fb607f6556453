"""The commands, one module per subject. Each has `register(app)`; nothing heavy is imported before a command runs."""
