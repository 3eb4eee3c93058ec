"""The leaderboard: submissions that anyone can check, and the page that shows them.

``entry`` is the schema; ``submit`` makes an entry from runs and ``intake`` reads one as if it were hostile;
``verify`` recomputes it, ``rerun`` repeats it, ``records`` keeps what was found; ``site`` makes the page.
"""
