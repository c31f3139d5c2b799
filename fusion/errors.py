"""The two ways in which work ends early."""


class FusionError(ValueError):
    """Something the user can put right: says what was wanted, what came and what to do."""


class Cancelled(Exception):
    """Raised by a progress callback to stop a run; nothing is wrong."""
