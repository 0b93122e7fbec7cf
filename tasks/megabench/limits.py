"""Sizes beyond which an answer is not looked into any further. They bound time and memory, and never depend on a clock.

Gold answers are at most a few thousand characters long: an answer beyond these limits would score 0 by the official
code as well, wherever that code finishes at all.
"""

from __future__ import annotations

MAX_FIELD_CHARS = 100_000
"""A field value longer than this scores 0 with the reason "answer too long"."""

MAX_LITERAL_CHARS = 100_000
"""Longer texts are plain text to us, never Python or JSON literals."""

MAX_STRUCTURED_CHARS = 200_000
"""No JSON object is searched for in longer texts; the official search ends by its timeout there."""

MAX_CANDIDATES = 10_000
"""How many bracketed parts of a response are tried as JSON or Python literals, the last one first."""

MAX_ART_CHARS = 1_000_000
"""Answers of ASCII art keep their blank lines beyond this length, and are then too long (`MAX_FIELD_CHARS`)."""

MAX_NESTED_STRINGS = 1_000
"""How many string literals of one JSON candidate are tried as nested JSON."""

MAX_EDIT_CELLS = 20_000_000
"""Length product up to which an edit distance is computed."""

MAX_LINGUISTIC_CHARS = 20_000
"""Longer texts are not tokenized into sentences, words or pronunciations."""
