"""Tasks over HTTP: submission, reading, waiting, streaming, cancelling and retrying."""
