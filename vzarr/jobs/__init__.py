"""Verbs that take long, run as jobs: who asked goes on at once, and looks later how far it is and how it ended."""
