"""Publishing to Kafka: what the mutation logs and the repo log say, in DVID's topics and messages.

Nothing is written for it when somebody edits.  A topic has a cursor in the repo's keys, which says how far it was
published, and everything after it is read from the logs: whoever made the change, however long the broker was away,
and whichever server is there to publish it.
"""
