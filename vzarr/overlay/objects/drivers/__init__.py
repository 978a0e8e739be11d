"""How requests reach an object store: one driver per way of talking to it, below `RemoteObjects`."""
