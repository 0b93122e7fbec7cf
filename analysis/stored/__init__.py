"""The run store as analysis sees it: which runs are meant, whether they compare, and their arrays. Reads, never writes."""
