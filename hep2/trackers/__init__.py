"""Where a run is looked at: one module a tracker, each of which may be lost without harm."""
