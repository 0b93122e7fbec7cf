"""Model engines behind one interface; see `specs_eval.backends.base`."""
