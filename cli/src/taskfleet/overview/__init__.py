"""What `taskfleet top` shows: gathered over HTTP, and turned into something rich prints."""
