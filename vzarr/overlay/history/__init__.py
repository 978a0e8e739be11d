"""The version graph: its log, what the log adds up to, and how people name a version.  Knows no array."""
