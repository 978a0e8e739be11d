"""What one version looks like, be it sealed, open or an open root, and the way from open to sealed."""
