"""``neuronjson``: JSON annotations by body, with who set each field and when, found by what they say.

A record is a JSON object whose ``bodyid`` is its key.  `records` says how posts change it, `queries` what can be
asked, `rows` how records and their index lie in the keys, `search` how the index answers, `schema` how records are
checked, and `handle` joins them.
"""
