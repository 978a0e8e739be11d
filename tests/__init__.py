"""The test suite; a package so that its helpers have one name (`tests.serving`) whatever is installed."""
