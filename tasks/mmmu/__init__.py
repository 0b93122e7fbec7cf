"""MMMU and MMMU-Pro: college-level questions with images; see README.md in this folder."""
