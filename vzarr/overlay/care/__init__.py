"""What keeps a repo healthy: verify, rebuild, gc, doctor, du."""
