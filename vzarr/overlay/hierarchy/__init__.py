"""What a version's groups and arrays are: the metadata tree, and how documents show it to other readers."""
