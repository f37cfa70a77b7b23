"""What the rows draft in a step: the drafts that cost nothing, the drafter's, and both joined.

In: the running rows. Out: a proposal for each, of which `verifying` says how far it holds. What is
drafted where is the choice of `planning`.
"""
