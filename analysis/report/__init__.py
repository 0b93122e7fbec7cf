"""The report: what the numbers look like. The only part of analysis that draws.

`content` is what goes in, `sections` arranges it as a document of texts, figures and tables, and `page`, `markdown`, `tidy` and
`images` write that document as one HTML file, Markdown, data and figures for a paper.
"""
