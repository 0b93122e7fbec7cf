"""The bridge to lmms-eval: our tasks inside it (`task`), its tasks inside ours (`adapter`)."""
