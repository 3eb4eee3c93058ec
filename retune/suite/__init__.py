"""Strategies x scenarios x data sets x backbones x seeds x label orders, with one command.

``grid`` reads what a user wrote, ``expand`` makes cells of it, ``plans`` finds out what each cell is on the data
that is there, ``execute`` runs what is left, with ``local`` or ``cluster``, and each job is done by ``work``.
"""
