"""A version for readers that know nothing of vzarr: copies, references, other formats."""
