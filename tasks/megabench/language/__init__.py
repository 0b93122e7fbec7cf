"""English sentences, words, lemmas and pronunciations, as the constrained_generation metric sees them."""
