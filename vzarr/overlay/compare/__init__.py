"""What differs between two versions, and who wrote what."""
