"""`taskfleet simulate`: reading a trace, playing it against rules, showing what came out."""
