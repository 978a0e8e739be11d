"""From a version's chunks to numpy and back, whole regions at a time."""
