"""Our backends as lmms-eval models, found by lmms-eval through the entry-point group ``lmms_eval.models``."""
