"""A tour without data at hand: a synthetic neuropil, versioned, proofread and served."""
