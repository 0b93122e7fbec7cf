"""Results made elsewhere, as runs of the store: lmms-eval's logs, and plain rows of sample id and score."""
