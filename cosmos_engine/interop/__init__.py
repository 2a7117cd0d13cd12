"""Other projects' formats: what they made becomes a recording, and what was made here becomes theirs.

One file a format; each says what it reads or writes. What survives each trip is in docs/interop.md.
"""
