"""Bytes of one chunk to numpy and back: codec chains, parts of Blosc frames, bounded decompression."""
