"""Owner pages: of each chunk the version that stored it."""
