"""One kernel, many implementations: see contract.py for the table and dispatch.py for the choice."""
