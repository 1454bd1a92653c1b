"""Benchmarks: what is timed (cases), by whom (providers), checked first (gate), and compared.

    softhebb-fast bench --quick

Every provider of a case runs in a process of its own; they take turns, round by round. A row of
the result (``rows.FIELDS``) is a case, a provider and the machine. See docs/benchmarks.md.
"""
