"""The keys of a repo: open versions, leases and locks in the key authority, and what of it goes into folders."""
