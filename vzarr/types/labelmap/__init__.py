"""Segmentation whose voxels hold supervoxels and whose bodies are a mapping on top of them."""
