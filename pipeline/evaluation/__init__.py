"""How good a task and a model are: labelled documents, scores, and a baseline beside them."""
