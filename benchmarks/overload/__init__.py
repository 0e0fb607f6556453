"""More submissions than one installation can take, and what it does with them."""
