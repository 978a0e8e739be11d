"""Moving versions between repos: clone, push, pull, fetch and mirror.

Sealed versions are folders that never change, so a transfer copies what a repo misses, checks every object against the
checksums that the source's log vouches for, and then publishes one log entry: nothing partial is ever seen, and whoever
was interrupted begins where it stopped.
"""
