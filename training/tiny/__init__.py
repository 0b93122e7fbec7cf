"""The tiny VLM that ships as the embedded default: how it is built, trained and found."""
