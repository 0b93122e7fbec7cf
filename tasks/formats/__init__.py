"""Format-following pairs: the same questions under the trained instruction and under changed ones."""
