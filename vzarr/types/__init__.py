"""Datatypes: what the named data of a repo mean.  Pure domain logic on arrays and keys; no HTTP.

A datatype is a `vzarr.types.base.Datatype` found through the entry point group ``vzarr.types``; the built-in
ones enter by the same door as those of any other package.
"""
