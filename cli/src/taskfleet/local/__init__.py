"""Local mode: the whole product as processes of one machine. The second implementation of what the operator does."""
