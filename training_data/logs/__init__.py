"""Other people's logs as Outcomes: no model and no GPU needed to train a router.

One file per source: `lmms_eval`, `vlmevalkit`, and `answers` for plain answer files. Each makes Samples of a log, and
`samples.join` makes Outcomes of the samples of several m. A plain table needs none of them: `Outcomes.load`.
"""
