"""Strategies x scenarios x data sets x backbones x seeds x label orders, with one command.

``spec`` is what a user wrote, ``grid`` makes runs of it, ``plans`` finds out what each run is on the data that is
there, and ``execute`` does what is left, with ``local`` or ``cluster``: their processes do one job after another, as
``work`` says. ``summary`` measures the finished runs, ``tables`` writes them.
"""
