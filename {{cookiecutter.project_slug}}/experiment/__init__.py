"""What surrounds a run: run.py (one run), sweep.py (many runs), compare.py and pictures.py (`make results`).

Nothing is imported here: the starter imports experiment.sweep in a Python that may have no packages.
"""
