"""easy-VQA: simple questions about one coloured shape; see README.md in this folder."""
