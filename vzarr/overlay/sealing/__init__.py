"""What a sealed version is on disk, and what a partial clone left out of it."""
